; What IOPL and the I/O permission map keep from CPL 3.
%include "bare.inc"
start:  protected
        mov     byte [gdt + TSS + 5], 0x89
        mov     eax, HERE(wide_tss)
        mov     [gdt + TSS + 2], ax
        mov     word [gdt + TSS], 0x68 + 32
        mov     dword [wide_tss + 4], STACK0
        mov     dword [wide_tss + 8], DATA
        mov     ax, TSS
        ltr     ax
        user    high
        user    low, 0x0002
        finish
high:   say     "IOPL 3: "
        sti
        pushfd
        pop     eax
        and     eax, 0x3200
        put16   ax
        cli
        pushfd
        pop     eax
        and     eax, 0x3200
        put16   ax
        newline
        int     0x80
low:    say     "IOPL 0, E9h allowed by the map: "
        push    dword 0x3202
        popfd
        pushfd
        pop     eax
        and     eax, 0x3200
        put16   ax
        newline
        mov     dword [step], .steps
.again: jmp     user_fault
.steps: dd      .cli, .sti, .in, .wide, .beyond, .hlt, .clts, .lgdt, .done
.cli:   cli
.sti:   sti
.in:    in      al, 0xe0
.wide:  in      ax, 0xe1
.beyond:
        mov     dx, 0x1ff
        in      al, dx
.hlt:   hlt
.clts:  clts
.lgdt:  lgdt    [gdtr]
.done:  say     "done", 10
        int     0x80
; Every instruction of the list faults; the handler of #GP goes on with the next.
user_fault:
        mov     dword [hooks + 13 * 4], .gp
.gp_next:
        mov     eax, [step]
        jmp     [eax]
.gp:    say     "#0D("
        put16   [frame32(F32_ERROR)]
        say     ")", 10
        add     dword [step], 4
        mov     dword [frame32(F32_EIP)], .gp_next
        ret
step:   dd      0
        align   16
wide_tss:
        times   0x66 db 0
        dw      0x68
        times   28 db 0
        db      0x01            ; E0h
        db      0x00
        times   4 db 0xff
