; Code that changes itself: the next instruction, one that it is in the middle of, across a page boundary, and through
; another mapping of its page.
%include "bare.inc"
%define CODE    0x50000
start:  protected
        ; The next instruction.
        mov     byte [.next + 1], 0x22
.next:  mov     al, 0x11
        say     "next: "
        put8    al
        newline
        ; A string store over itself and what follows.
        mov     esi, .image
        mov     edi, CODE
        mov     ecx, 16
        rep     movsb
        mov     eax, 0x90909090
        mov     edi, CODE
        mov     ecx, 2
        call    CODE
        say     "rep stosb: al "
        put8    al
        newline
        ; An instruction in two pages: its immediate lies in the second.
        mov     dword [CODE + 0xffc], 0xb8909090
        mov     dword [CODE + 0x1000], 0x11111111
        mov     byte [CODE + 0x1004], 0xc3
        call    CODE + 0xffc
        put32   eax
        say     " "
        mov     dword [CODE + 0x1000], 0x22222222
        call    CODE + 0xffc
        put32   eax
        newline
        ; The store itself crosses into code.
        mov     byte [CODE + 0x1005], 0xc3
        mov     dword [CODE + 0x1ffe], 0xc340c031
        mov     byte [CODE + 0x2002], 0xc3
        call    CODE + 0x1ffe
        put32   eax
        say     " "
        mov     dword [CODE + 0x1ffe], 0xc348c031
        call    CODE + 0x1ffe
        put32   eax
        newline
        ; A loop that patches its own immediate each time round.
        mov     ecx, 5
        xor     ebx, ebx
.loop:  mov     eax, 0
        inc     dword [.loop + 1]
        add     ebx, eax
        loop    .loop
        say     "sum "
        put32   ebx
        newline
        finish
        ; rep stosb over itself. (Whether an iteration sees the bytes of the one before, processors differ.)
.image: rep stosb
        mov     al, 0x55
        ret
        nop
        nop
