; SYSCALL and SYSRET: selectors, saved RIP and flags, the flag mask, both sizes of return, and EFER.SCE.
%include "bare.inc"
start:  long
        fault   "SCE clear", {syscall}
        mov     ecx, 0xc0000080
        rdmsr
        or      al, 1
        wrmsr
        mov     ecx, 0xc0000081
        xor     eax, eax
        mov     edx, SRET << 16 | CODE64
        wrmsr
        inc     ecx
        mov     eax, entry
        xor     edx, edx
        wrmsr
        mov     ecx, 0xc0000084
        mov     eax, 0x401
        wrmsr
        user    at_cpl3
        say     "in compatibility mode: "
        mov     byte [wide], 0
        mov     ecx, compat
        mov     r11d, 0x3002
        mov     [back_sp], rsp
        mov     dword [back_to], .done
        o32 sysret
.done:  newline
        finish
at_cpl3:
        std
        stc
        say     "cs "
        mov     eax, cs
        put16   ax
        newline
        syscall
after:  pushfq
        pop     rbx
        say     "back: cs "
        mov     eax, cs
        put16   ax
        say     " ss "
        mov     eax, ss
        put16   ax
        say     " flags "
        and     ebx, 0x3fd5
        put32   ebx
        newline
        cld
        int     0x80
entry:  mov     rbp, rsp
        pushfq
        pop     rbx
        say     "entry: cs "
        mov     eax, cs
        put16   ax
        say     " ss "
        mov     eax, ss
        put16   ax
        say     " rcx +"
        lea     rax, [rcx - after]
        put16   ax
        say     " r11 "
        mov     rax, r11
        and     eax, 0x3fd5
        put32   eax
        say     " flags "
        and     ebx, 0x3fd5
        put32   ebx
        newline
        o64 sysret
wide:   db      1
        bits    32
compat: say     "cs "
        mov     eax, cs
        put16   ax
        say     " ss "
        mov     eax, ss
        put16   ax
        int     0x80
