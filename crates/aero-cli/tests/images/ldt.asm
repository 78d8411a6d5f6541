; Local descriptors: LLDT and what it refuses, segments of the table with limits, LAR, LSL, VERR, VERW.
%include "bare.inc"
start:  protected
        fault   "local selector without a table", {call use_local}
        mov     ax, DATA
        fault   "lldt of data", {lldt ax}
        mov     ax, 0x1c
        fault   "lldt of a local selector", {lldt ax}
        mov     ax, LDT
        lldt    ax
        sldt    ax
        say     "sldt "
        put16   ax
        newline
        mov     ax, 7
        mov     es, ax
        fault   "within the limit", {mov eax, [es:0xfc]}
        fault   "over the limit", {mov eax, [es:0xfd]}
        mov     ax, 0x17
        fault   "empty descriptor", {mov es, ax}
        mov     ax, 0x27
        fault   "beyond the local table", {mov es, ax}
        mov     ebx, 7
        call    look
        mov     ebx, CODE32
        call    look
        mov     ebx, TSS
        call    look
        mov     ebx, RONLY
        call    look
        mov     ebx, CONFORM
        call    look
        mov     ebx, ABSENT
        call    look
        mov     ebx, 0
        call    look
        mov     ebx, 0xfff8
        call    look
        xor     eax, eax
        lldt    ax
        fault   "null table", {call use_local}
        finish
use_local:
        mov     dword [fault_at], .insn
        mov     ax, 7
.insn:  mov     es, ax
        ret
look:   say     "selector "
        put16   bx
        say     " lar "
        mov     eax, -1
        lar     eax, ebx
        pushfd
        and     eax, 0xfff0ffff ; the manual leaves these four bits open
        popfd
        call    answer
        say     " lsl "
        mov     eax, -1
        lsl     eax, ebx
        call    answer
        say     " verr "
        mov     eax, 0
        verr    bx
        call    zf
        say     " verw "
        verw    bx
        call    zf
        newline
        ret
answer: jz      .yes
        say     "no"
        ret
.yes:   put32   eax
        ret
zf:     jz      .yes
        say     "no"
        ret
.yes:   say     "yes"
        ret
