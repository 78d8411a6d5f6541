; Alignment checks in a loop that has run often before they are turned on.
; aero: --cpu max --jit full,threshold=1
%include "bare.inc"
start:  protected
        mov     eax, cr0
        or      eax, 0x40000
        mov     cr0, eax
        mov     dword [hooks + 17 * 4], ac
        user    at_cpl3, 0x3002
        finish
at_cpl3:
        mov     edi, 3
many:   call    loads
        dec     edi
        jnz     many
        say     "AC clear", 10
        pushfd
        or      dword [esp], 0x40000
        popfd
        call    loads
        newline
        int     0x80
loads:  mov     ecx, 1000
.next:  mov     eax, [FREE + 1]
        add     eax, [FREE + 6]
        dec     ecx
        jnz     .next
        ret
ac:     say     "#11 with "
        put16   [frame32(32)]
        say     " to go"
        and     dword [frame32(F32_EFLAGS)], ~0x40000
        ret
