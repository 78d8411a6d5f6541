; Each exception of protected mode with its error code and the address that it reports.
%include "bare.inc"
start:  protected
        fault   "divide by zero", {div byte [zero]}
        fault   "quotient too large", {idiv byte [one]}
        fault   "int1", {db 0xf1}
        fault   "int3", {int3}
        fault   "int 3", {int 3}
        mov     al, 0x7f
        add     al, 1
        fault   "into", {into}
        mov     eax, 5
        fault   "bound", {bound eax, [bounds]}
        fault   "ud2", {ud2}
        fault   "lock nop", {db 0xf0, 0x90}
        fault   "mov cs", {db 0x8e, 0xc8}
        mov     eax, cr0
        or      al, 4
        mov     cr0, eax
        fault   "x87 while EM", {fld1}
        fault   "SSE while EM", {xorps xmm0, xmm0}
        and     al, ~4
        or      al, 8
        mov     cr0, eax
        fault   "x87 while TS", {fld1}
        fault   "wait while TS without MP", {fwait}
        or      al, 2
        mov     cr0, eax
        fault   "wait while TS and MP", {fwait}
        clts
        mov     ax, ABSENT
        fault   "data segment not present", {mov ds, ax}
        fault   "stack segment not present", {mov ss, ax}
        xor     eax, eax
        fault   "null stack segment", {mov ss, ax}
        fault   "null data segment", {mov es, ax}
        fault   "through a null segment", {mov al, [es:0]}
        mov     ax, 0x1000
        fault   "selector beyond the table", {mov ds, ax}
        mov     ax, RONLY
        fault   "read-only stack segment", {mov ss, ax}
        mov     es, ax
        fault   "store to read-only data", {mov [es:FREE], al}
        fault   "store to code", {mov [cs:FREE], al}
        mov     ax, TSS
        fault   "system segment as data", {mov ds, ax}
        fault   "jump to data", {jmp DATA:0}
        fault   "jump to null", {jmp 0:0}
        fault   "int without a gate", {int 0xff}
        mov     word [idtr], 0x7f7
        lidt    [idtr]
        fault   "int beyond the table", {int 0xff}
        mov     word [idtr], 0xfff
        lidt    [idtr]
        fault   "cr4 reserved bit", {call reserved_cr4}
        fault   "cr0 PG without PE", {call paging_alone}
        finish

reserved_cr4:
        mov     eax, 1 << 31
        mov     [fault_at], dword .insn
.insn:  mov     cr4, eax
        ret
paging_alone:
        mov     eax, 0x80000000
        mov     [fault_at], dword .insn
.insn:  mov     cr0, eax
        ret

zero:   db      0
one:    db      1
bounds: dd      1, 4
