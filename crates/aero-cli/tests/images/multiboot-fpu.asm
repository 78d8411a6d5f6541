; A multiboot kernel that leaves CR0.NE as it finds it: an unmasked floating-point error is #MF at the next MMX instruction,
; not a wait for IRQ 13.
; kernel
; status: 33
        bits    32
        org     0x100000
%define MAGIC   0x1badb002
%define FLAGS   0x10000
header: dd      MAGIC, FLAGS, -(MAGIC + FLAGS), header, header, image_end, bss_end, start

%macro print 1
        mov     al, %1
        out     0xe9, al
%endmacro

start:  mov     esp, stack
        lgdt    [gdtr]
        jmp     8:.flat
.flat:  mov     eax, error
        mov     [idt + 16 * 8], ax
        mov     word [idt + 16 * 8 + 2], 8
        mov     word [idt + 16 * 8 + 4], 0x8e00
        shr     eax, 16
        mov     [idt + 16 * 8 + 6], ax
        lidt    [idtr]
        fninit
        fldcw   [unmasked]
        fldz
        fldz
        fdivp
        print   'd'
        movq    mm0, [header]
        print   'm'
        jmp     finish
error:  print   'e'
finish: print   10
        mov     al, 0x10
        out     0xf4, al
        hlt
unmasked:
        dw      0x340
        align   8
gdt:    dq      0, 0x00cf9b000000ffff
gdtr:   dw      15
        dd      gdt
idtr:   dw      17 * 8 - 1
        dd      idt
image_end:
        absolute image_end
        alignb  8
idt:    resq    17
        resb    4096
stack:
bss_end:
