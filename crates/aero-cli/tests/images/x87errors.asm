; Unmasked x87 exceptions: #MF at the next waiting instruction with NE, IRQ 13 without, and none at non-waiting ones.
%include "bare.inc"
start:  protected
        mov     eax, cr0
        and     al, ~4
        or      al, 0x22
        mov     cr0, eax
        fninit
        fldcw   [.unmasked]
        fldz
        fld1
        fault   "the division itself", {fdiv st0, st1}
        fault   "fnstsw", {fnstsw ax}
        and     ax, 0x80ff
        put16   ax
        newline
        fault   "fwait", {fwait}
        fault   "fld1", {fld1}
        fault   "fnclex", {fnclex}
        fault   "fld1", {fld1}
        fninit
        fldcw   [.invalid]
        fault   "pop of an empty stack", {fstp st0}
        fault   "fwait", {fwait}
        fnclex
        finish
.unmasked:
        dw      0x37b
.invalid:
        dw      0x37e
