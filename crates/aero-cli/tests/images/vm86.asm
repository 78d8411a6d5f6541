; Virtual-8086 mode: entry by IRETD, the frame of an interrupt out of it, what IOPL and the I/O map keep from it, and what
; no IOPL allows.
%include "bare.inc"
start:  protected
        mov     word [gdt + TSS], 0x68 + 32
        mov     byte [gdt + TSS + 5], 0x89
        mov     eax, HERE(wide_tss)
        mov     [gdt + TSS + 2], ax
        mov     dword [wide_tss + 4], STACK0
        mov     dword [wide_tss + 8], DATA
        mov     ax, TSS
        ltr     ax
        mov     dword [hooks + 13 * 4], refused
        mov     dword [hooks + 6 * 4], refused
        mov     dword [hooks + 0x21 * 4], int21
        mov     dword [hooks + 0x22 * 4], int22
        or      byte [IDT + 0x21 * 8 + 5], 0x60
        or      byte [IDT + 0x22 * 8 + 5], 0x60
        mov     eax, 0x23002            ; VM, IOPL 3
        mov     ebx, high
        call    enter
        mov     eax, 0x20002            ; VM, IOPL 0
        mov     ebx, low
        call    enter
        finish

enter:  pop     dword [return]
        mov     [entry_sp], esp
        push    dword 0                 ; GS FS DS ES
        push    dword 0
        push    dword 0
        push    dword 0x4321
        push    dword 0x1d00            ; SS
        push    dword 0x0800
        push    eax
        push    dword 0
        push    ebx
        iretd
int22:  mov     esp, [entry_sp]
        newline
        jmp     [return]

; Prints what was raised and goes on behind the instruction, whose length stands in a list.
refused:
        say     "#"
        put8    [frame32(F32_VECTOR)]
        say     "("
        put16   [frame32(F32_ERROR)]
        say     ") "
        mov     esi, [next]
        movzx   eax, byte [esi]
        inc     dword [next]
        add     [frame32(F32_EIP)], eax
        ret

int21:  say     "[int 21h: cs "
        put16   [frame32(F32_CS)]
        say     " vm "
        mov     eax, [frame32(F32_EFLAGS)]
        shr     eax, 17
        and     al, 1
        put8    al
        say     " ss:esp "
        put16   [frame32(F32_SS)]
        put32   [frame32(F32_ESP)]
        say     " es "
        put16   [frame32(F32_SS + 4)]
        say     " ds "
        put16   [frame32(F32_SS + 8)]
        say     " fs "
        put16   [frame32(F32_SS + 12)]
        say     " saved es "
        put16   [frame32(4)]
        say     "] "
        ret

        bits    16
high:   mov     ax, 0x1234
        mov     fs, ax
        mov     dword [next], .lengths
        say     "IOPL 3: "
        int     0x21
        sti
        pushf
        pop     ax
        and     ax, 0x3200
        put16   ax
        say     " "
        cli
        hlt                             ; from here on each is refused
        mov     eax, cr0
        lgdt    [gdtr]
        mov     cr3, eax
        clts
        mov     eax, dr7
        sldt    ax
        arpl    ax, ax
        verr    ax
        in      al, 0xe0
        int     0x22
.lengths:
        db      1, 3, 5, 3, 2, 3, 3, 2, 3, 2

; PUSHF is refused here, and SAY uses it.
%macro  letter 1
        mov     al, %1
        out     0xe9, al
%endmacro
low:    mov     dword [next], .lengths
        letter  'I'
        in      al, 0xe8
        int     0x21                    ; from here on each is refused
        cli
        sti
        pushf
        popf
        iret
        mov     bx, 0xffff
        mov     ax, [bx]
        letter  'E'
        mov     dword [hooks + 13 * 4], int22
        hlt
.lengths:
        db      2, 1, 1, 1, 1, 1, 2
        bits    32

next:   dd      0
return: dd      0
entry_sp:
        dd      0
        align   16
wide_tss:
        times   0x66 db 0
        dw      0x68
        times   28 db 0
        db      1                       ; port E0h
        db      0                       ; E8h to EFh
        times   4 db 0xff
