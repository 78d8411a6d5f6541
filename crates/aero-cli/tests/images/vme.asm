; VME: software interrupts in VM86 go through the redirection map to real-mode vectors, and CLI, STI, PUSHF and POPF work
; on VIF.
%include "bare.inc"
start:  protected
        mov     byte [gdt + TSS + 5], 0x89
        mov     eax, HERE(wide_tss)
        mov     [gdt + TSS + 2], ax
        mov     word [gdt + TSS], 0x68 + 32 + 32
        mov     dword [wide_tss + 4], STACK0
        mov     dword [wide_tss + 8], DATA
        mov     ax, TSS
        ltr     ax
        mov     dword [hooks + 13 * 4], refused
        mov     dword [hooks + 0x21 * 4], int21
        mov     dword [hooks + 0x22 * 4], int22
        or      byte [IDT + 0x21 * 8 + 5], 0x60
        or      byte [IDT + 0x22 * 8 + 5], 0x60
        mov     word [0x20 * 4], redirected
        mov     word [0x20 * 4 + 2], 0
        mov     eax, cr4
        or      al, 1
        mov     cr4, eax
        mov     [entry_sp], esp
        push    dword 0
        push    dword 0
        push    dword 0
        push    dword 0
        push    dword 0x1d00
        push    dword 0x0800
        push    dword 0x20002           ; VM, IOPL 0
        push    dword 0
        push    dword low
        iretd
int22:  newline
        finish
refused:
        say     "#0D("
        put16   [frame32(F32_ERROR)]
        say     ") "
        mov     esi, [next]
        movzx   eax, byte [esi]
        inc     dword [next]
        add     [frame32(F32_EIP)], eax
        ret
int21:  say     "flags "
        mov     eax, [frame32(F32_EFLAGS)]
        and     eax, 0x1a3200
        put32   eax
        say     " "
        ret

%macro  letter 1
        mov     al, %1
        out     0xe9, al
%endmacro
        bits    16
low:    mov     dword [next], .lengths
        int     0x20                    ; redirected
        letter  'b'
        letter  ' '
        sti
        pushf
        pop     ax
        mov     [FREE - 0x21000], ax
        int     0x22 + 1                ; not redirected, its gate is of DPL 0: refused
        pushfd                          ; a dword: refused
        push    word 0x0002
        popf
        pushf
        pop     bx
        mov     [FREE - 0x21000 + 2], bx
        push    word 0x0102
        popf                            ; TF: refused
        mov     dword [hooks + 13 * 4], int22x
        hlt
.lengths:
        db      2, 2, 1
redirected:
        letter  'r'
        pop     bx
        pop     bx
        pop     bx
        push    bx
        push    word 0
        push    word low + 11
        and     bx, 0x7200
        mov     [FREE - 0x21000 + 4], bx
        iret
        bits    32
int22x: say     "after sti "
        put16   [FREE - 0x21000]
        say     " after popf "
        put16   [FREE - 0x21000 + 2]
        say     " redirected saw "
        put16   [FREE - 0x21000 + 4]
        say     " flags "
        mov     eax, [frame32(F32_EFLAGS)]
        and     eax, 0x1a3200
        put32   eax
        newline
        finish
next:   dd      0
entry_sp:
        dd      0
        align   16
wide_tss:
        times   0x66 db 0
        dw      0x68 + 32
        ; Redirection: a clear bit goes to the real-mode vector.
        db      0xff, 0xff, 0xff, 0xff, 0xfe
        times   27 db 0xff
        times   32 db 0
        db      0xff
