; SYSENTER and SYSEXIT in 32-bit code, and what they refuse.
%include "bare.inc"
start:  protected
        fault   "sysenter without a selector", {sysenter}
        fault   "sysexit without a selector", {sysexit}
        mov     ecx, 0x174
        mov     eax, CODE32
        xor     edx, edx
        wrmsr
        inc     ecx
        mov     eax, STACK0 - 0x100
        wrmsr
        inc     ecx
        mov     eax, entry
        wrmsr
        ; The four selectors follow each other from CODE32 on: code, data, user code at +16, user data at +24.
        mov     esi, gdt + 0x28
        mov     edi, gdt + CODE32 + 16
        mov     ecx, 4
        rep     movsd
        mov     [back_sp], esp
        mov     dword [back_to], done
        mov     edx, at_cpl3
        mov     ecx, USTACK
        pushfd
        or      dword [esp], 0x3000
        popfd
        sysexit
at_cpl3:
        say     "cs "
        mov     eax, cs
        put16   ax
        say     " ss "
        mov     eax, ss
        put16   ax
        say     " esp "
        mov     eax, esp
        put32   eax
        newline
        mov     eax, CODE32 + 24 + 3
        mov     ds, eax
        mov     es, eax
        sysenter
entry:  say     "entry: cs "
        mov     eax, cs
        put16   ax
        say     " ss "
        mov     eax, ss
        put16   ax
        say     " esp "
        mov     eax, esp
        put32   eax
        say     " if "
        pushfd
        pop     eax
        shr     eax, 9
        and     al, 1
        put8    al
        newline
done:   finish
