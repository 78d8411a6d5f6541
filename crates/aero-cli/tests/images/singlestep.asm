; Single steps: after each instruction, not after one that loads SS, once for each iteration of REP, with TF cleared in
; the handler, through INT and after POPF.
%include "bare.inc"
start:  protected
        mov     dword [hooks + 1 * 4], step
        mov     dword [hooks + 0x30 * 4], int30
        mov     eax, 0x4000
        mov     dr6, eax
        say     "nops: "
        pushfd
        or      dword [esp], 0x100
        popfd
.a:     nop
        nop
        pushfd
        and     dword [esp], ~0x100
        popfd
        nop
        newline
        say     "mov ss: "
        mov     eax, ss
        pushfd
        or      dword [esp], 0x100
        popfd
        mov     ss, eax
        nop
        nop
        pushfd
        and     dword [esp], ~0x100
        popfd
        newline
        say     "rep: "
        mov     ecx, 3
        mov     esi, start
        mov     edi, FREE
        pushfd
        or      dword [esp], 0x100
        popfd
        rep     movsb
        pushfd
        and     dword [esp], ~0x100
        popfd
        newline
        say     "int: "
        pushfd
        or      dword [esp], 0x100
        popfd
        int     0x30
        nop
        pushfd
        and     dword [esp], ~0x100
        popfd
        newline
        finish

step:   mov     eax, [frame32(F32_EIP)]
        sub     eax, start
        put16   ax
        mov     eax, dr6
        cmp     eax, 0xffff4ff0
        je      .good
        say     "(dr6 "
        put32   eax
        say     ")"
.good:  mov     eax, 0xffff0ff0
        mov     dr6, eax
        say     " "
        ret
int30:  say     "[in int 30h: tf "
        pushfd
        pop     eax
        shr     eax, 8
        and     al, 1
        put8    al
        say     "] "
        ret
