; A double fault through a task gate: its task starts whatever the stack of the faulting one is worth.
%include "bare.inc"
start:  protected
        other_task task
        mov     dword [IDT + 8 * 8], TSS2 << 16
        mov     dword [IDT + 8 * 8 + 4], 0x8500
        ; The vectors of a page's worth of contributory faults are not there.
        mov     dword [IDT + 13 * 8 + 4], 0
        say     "#GP whose gate is not present: "
        xor     eax, eax
        mov     es, eax
        mov     [es:0], al
        say     "not reached"
        finish
task:   pop     eax
        say     "#DF("
        put32   eax
        say     ") tr "
        str     ax
        put16   ax
        say     " link "
        put16   [tss2]
        say     " eip +"
        mov     eax, [tss + 0x20]
        sub     eax, start
        put16   ax
        newline
        finish
