; The A20 gate by the keyboard controller's commands, and port 92h.
%include "bare.inc"
start:  call    unreal
        mov     ebx, 0x100500
        mov     byte [ebx], 0x11
        mov     byte [0x500], 0x22
        say     "open: "
        call    show
        in      al, 0x92
        and     al, 0xfc
        out     0x92, al
        mov     al, 0xdd
        call    command
        say     "closed: "
        call    show
        mov     byte [ebx], 0x33
        say     "after a store above: "
        call    show
        mov     al, 0xdf
        call    command
        say     "open: "
        call    show
        finish
show:   put8    [0x500]
        say     " "
        put8    [ebx]
        newline
        ret
command:
        push    ax
.wait:  in      al, 0x64
        test    al, 2
        jnz     .wait
        pop     ax
        out     0x64, al
.done:  in      al, 0x64
        test    al, 2
        jnz     .done
        ret
