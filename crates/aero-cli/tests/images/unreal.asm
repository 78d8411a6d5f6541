; Protected mode and back: real mode keeps the limits of segments until they are loaded anew, the base comes from the
; selector, and 16-bit protected code in between.
%include "bare.inc"
start:  call    unreal
        mov     dword [dword FREE], 0x11223344
        mov     ebx, 0x100000
        mov     dword [ebx], 0xcafe1234
        say     "1 MiB: "
        put32   [dword 0x100000]
        newline
        mov     ax, 0x3000
        mov     es, ax
        say     "3000:0 "
        put32   [es:0]
        say     " 3000:D0000 "
        put32   [dword es:0xd0000]
        newline
        ; 16-bit protected mode with limits of 64 KiB, and back.
        lgdt    [gdtr]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        jmp     CODE16:.in
.in:    mov     ax, DATA16
        mov     ds, ax
        mov     es, ax
        say     "16-bit protected, cs "
        mov     ax, cs
        put16   ax
        smsw    ax
        and     ax, 0xf
        say     " msw "
        put16   ax
        newline
        mov     eax, cr0
        and     al, 0xfe
        mov     cr0, eax
        say     "PE off, cs still "
        mov     ax, cs
        put16   ax
        newline
        jmp     0:.out
.out:   xor     ax, ax
        mov     ds, ax
        mov     es, ax
        say     "store through cs "
        mov     byte [cs:.byte], 0x5a
        put8    [.byte]
        newline
        mov     word [13 * 4], .limit
        mov     word [13 * 4 + 2], 0
        mov     ebx, 0x10000
        mov     al, [ebx]
        say     "no fault above 64 KiB"
        jmp     .end
.limit: say     "#GP above 64 KiB"
.end:   newline
        finish
.byte:  db      0
