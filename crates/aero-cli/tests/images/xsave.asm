; XSAVE: gated by CR4.OSXSAVE, XCR0's rules, the header of what is saved, alignment, and XRSTOR's checks.
%include "bare.inc"
start:  long
        mov     edi, FREE
        xor     eax, eax
        mov     ecx, 0x1000 / 4
        rep     stosd
        fault   "xgetbv without OSXSAVE", {xgetbv}
        fault   "xsave without OSXSAVE", {xsave [FREE]}
        mov     rax, cr4
        or      eax, 1 << 18
        mov     cr4, rax
        xor     ecx, ecx
        xgetbv
        say     "XCR0 "
        put32   eax
        newline
        xor     edx, edx
        mov     eax, 2
        fault   "XCR0 without x87", {xsetbv}
        mov     eax, 5
        fault   "XCR0 with AVX and without SSE", {xsetbv}
        mov     eax, 3
        mov     edx, 1 << 31
        fault   "XCR0 reserved bit", {xsetbv}
        xor     edx, edx
        inc     ecx
        fault   "XCR1", {xsetbv}
        dec     ecx
        mov     eax, 3
        fault   "XCR0 x87 and SSE", {xsetbv}
        fninit
        fld1
        movq    xmm0, [.value]
        mov     eax, -1
        mov     edx, -1
        fault   "misaligned", {xsave [FREE + 8]}
        fault   "xsave", {xsave [FREE]}
        say     "XSTATE_BV "
        put64   [FREE + 512]
        say     " xmm0 "
        put64   [FREE + 160]
        newline
        xorps   xmm0, xmm0
        mov     eax, 2
        xor     edx, edx
        fault   "xrstor of SSE", {xrstor [FREE]}
        movq    [FREE + 0x1000], xmm0
        put64   [FREE + 0x1000]
        newline
        mov     byte [FREE + 512], 4
        fault   "XSTATE_BV beyond XCR0", {xrstor [FREE]}
        mov     byte [FREE + 512], 2
        mov     byte [FREE + 528], 1
        fault   "reserved byte of the header", {xrstor [FREE]}
        mov     byte [FREE + 528], 0
        mov     byte [FREE + 26], 1
        fault   "reserved bit of MXCSR", {xrstor [FREE]}
        mov     byte [FREE + 26], 0
        mov     byte [FREE + 512], 0
        fault   "initial values", {xrstor [FREE]}
        movq    [FREE + 0x1000], xmm0
        put64   [FREE + 0x1000]
        newline
        finish
        align   16
.value: dq      0x1122334455667788
