; SSE exceptions: #XM with CR4.OSXMMEXCPT, #UD without, MXCSR's reserved bits, alignment, and what CR4.OSFXSR gates.
%include "bare.inc"
start:  protected
        fault   "SSE without OSFXSR", {xorps xmm0, xmm0}
        mov     eax, cr0
        and     al, ~4
        or      al, 2
        mov     cr0, eax
        mov     eax, cr4
        or      eax, 0x200
        mov     cr4, eax
        xorps   xmm0, xmm0
        movss   xmm1, [.one]
        ldmxcsr [.divide]
        fault   "divide by zero without OSXMMEXCPT", {divss xmm1, xmm0}
        mov     eax, cr4
        or      eax, 0x400
        mov     cr4, eax
        fault   "divide by zero", {divss xmm1, xmm0}
        stmxcsr [FREE]
        put32   [FREE]
        say     " xmm1 "
        movss   [FREE], xmm1
        put32   [FREE]
        newline
        ldmxcsr [.masked]
        fault   "masked", {divss xmm1, xmm0}
        movss   [FREE], xmm1
        put32   [FREE]
        newline
        fault   "reserved bit of MXCSR", {ldmxcsr [.reserved]}
        fault   "misaligned movaps", {movaps xmm0, [FREE + 4]}
        fault   "misaligned movups", {movups xmm0, [FREE + 4]}
        fault   "misaligned addps", {addps xmm0, [FREE + 4]}
        mov     eax, cr0
        or      al, 8
        mov     cr0, eax
        fault   "TS", {addps xmm0, xmm0}
        finish
.one:   dd      0x3f800000
.divide:
        dd      0x1d80
.masked:
        dd      0x1f80
.reserved:
        dd      0x10000
