; Hardware breakpoints: on execution (before, and not again with RF), on stores and on accesses (after), lengths, DR6,
; general detect.
%include "bare.inc"
start:  protected
        mov     dword [hooks + 1 * 4], hit
        mov     eax, place
        mov     dr0, eax
        mov     eax, FREE
        mov     dr1, eax
        mov     eax, FREE + 0x10
        mov     dr2, eax
        ; L0 execute; L1 write of 4 bytes; L2 access of 2 bytes.
        mov     eax, 0x400 | 1 << 0 | 1 << 2 | 1 << 4 | 0xd << 20 | 7 << 24
        mov     dr7, eax
        say     "execute: "
place:  nop
        say     "gone on", 10
        say     "read of the written one: "
        mov     eax, [FREE]
        say     "nothing", 10
        say     "write: "
        mov     [FREE], eax
        newline
        say     "write of a byte inside: "
        mov     [FREE + 3], al
        newline
        say     "write behind: "
        mov     [FREE + 4], al
        say     "nothing", 10
        say     "write that crosses: "
        mov     [FREE - 2], eax
        newline
        say     "access: "
        mov     al, [FREE + 0x11]
        newline
        say     "string: "
        mov     esi, FREE + 0x0e
        mov     edi, FREE - 2
        mov     ecx, 3
        rep     movsw
        newline
        say     "both at once: "
        mov     eax, FREE
        mov     dr2, eax
        mov     [FREE], eax
        newline
        ; GD
        mov     eax, dr7
        or      eax, 0x2000
        mov     dr7, eax
        say     "general detect: "
        mov     eax, dr0
        say     "read after that", 10
        xor     eax, eax
        mov     dr7, eax
        mov     eax, cr4
        or      al, 8
        mov     cr4, eax
        mov     dword [hooks + 1 * 4], 0
        fault   "dr4 with CR4.DE", {mov eax, dr4}
        finish

hit:    mov     eax, dr6
        say     "[dr6 "
        put32   eax
        say     " +"
        mov     eax, [frame32(F32_EIP)]
        sub     eax, place
        put16   ax
        say     "] "
        mov     eax, 0xffff0ff0
        mov     dr6, eax
        or      dword [frame32(F32_EFLAGS)], 0x10000
        ret
