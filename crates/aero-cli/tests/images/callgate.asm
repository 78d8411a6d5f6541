; Call gates: to more privilege with parameters copied, back by RETF, conforming code, and what is refused.
%include "bare.inc"
%define G_INNER SPARE           ; two parameters, DPL 3
%define G_DPL0  SPARE + 8
%define G_ABSENT SPARE + 16
%define G_DATA  SPARE + 24
%define G_SAME  SPARE + 32      ; to CPL 0 code, called from CPL 0
%define G_16    SPARE + 40
start:  protected
        mov     edi, spare
        mov     esi, gates
        mov     ecx, 6 * 2
        rep     movsd
        say     "from CPL 0: "
        call    G_SAME:0
        newline
        fault   "gate not present", {call G_ABSENT:0}
        fault   "gate to data", {call G_DATA:0}
        fault   "jump through a gate", {jmp G_SAME:0}
        user    at_cpl3
        finish

gates:
%macro  callgate 4
        dw      HERE(%1), %2
        db      %3, %4
        dw      0
%endmacro
        callgate inner, CODE32, 2, 0xec
        callgate inner, CODE32, 0, 0x8c
        callgate inner, CODE32, 0, 0x6c
        callgate inner, DATA, 0, 0xec
        callgate same, CODE32, 0, 0x8c
        callgate inner16, CODE16, 1, 0xe4

same:   mov     eax, cs
        say     "cs "
        put16   ax
        cmp     dword [esp + 4], CODE32
        jne     jumped
        retf
        ; A jump through the gate comes here with nothing pushed.
jumped: say     " jumped"
        jmp     [resume]

inner:  mov     ebp, esp
        say     "cs "
        mov     eax, cs
        put16   ax
        mov     eax, STACK0
        sub     eax, ebp
        say     " pushed "
        put8    al
        say     " parameters "
        put32   [ebp + 8]
        say     " "
        put32   [ebp + 12]
        say     " old esp -"
        mov     eax, USTACK
        sub     eax, [ebp + 16]
        put8    al
        say     " old ss "
        put16   [ebp + 20]
        retf    8

        bits    16
inner16:
        say     "16-bit, old cs "
        mov     ebp, esp
        put16   [ebp + 2]
        say     " parameter "
        put16   [ebp + 4]
        retf    2
        bits    32

at_cpl3:
        push    dword 0x11112222
        push    dword 0x33334444
        call    G_INNER:0x12345678
        say     ", back at cs "
        mov     eax, cs
        put16   ax
        mov     eax, USTACK
        sub     eax, esp
        say     " esp -"
        put8    al
        newline
        say     "16-bit gate: "
        push    word 0x5566
        call    G_16:0
        newline
        fault   "gate of DPL 0", {call G_DPL0:0}
        int     0x80
