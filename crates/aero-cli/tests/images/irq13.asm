; An unmasked x87 exception without NE: FERR# comes as IRQ 13, and the processor waits for it or goes on.
%include "bare.inc"
start:  protected
        ; Both 8259s: vectors 50h and 58h, all but 2 and 13 masked.
        mov     al, 0x11
        out     0x20, al
        out     0xa0, al
        mov     al, 0x50
        out     0x21, al
        mov     al, 0x58
        out     0xa1, al
        mov     al, 4
        out     0x21, al
        mov     al, 2
        out     0xa1, al
        mov     al, 1
        out     0x21, al
        out     0xa1, al
        mov     al, 0xfb
        out     0x21, al
        mov     al, 0xdf
        out     0xa1, al
        mov     dword [hooks + 0x5d * 4], irq13
        mov     eax, cr0
        and     al, ~0x24
        or      al, 2
        mov     cr0, eax
        fninit
        fldcw   [.unmasked]
        fldz
        fld1
        sti
        fdiv    st0, st1
        say     "divided, "
        fwait
        nop
        say     "waited", 10
        cli
        finish
.unmasked:
        dw      0x37b
irq13:  say     "[IRQ 13] "
        mov     al, 0
        out     0xf0, al
        fnclex
        mov     al, 0x20
        out     0xa0, al
        out     0x20, al
        ret
