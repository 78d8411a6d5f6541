; UMIP: descriptor-table registers kept from CPL 3.
%include "bare.inc"
start:  long
        user    before
        mov     rax, cr4
        or      eax, 1 << 11
        mov     cr4, rax
        mov     byte [IDT + 13 * 16 + 5], 0x8e
        user    sgdt3
        user    sidt3
        user    sldt3
        user    str3
        user    smsw3
        fault   "sgdt at CPL 0", {sgdt [FREE]}
        finish
before: sgdt    [FREE]
        say     "UMIP clear: limit "
        put16   [FREE]
        newline
        int     0x80
sgdt3:  fault   "sgdt", {sgdt [FREE]}
        int     0x80
sidt3:  fault   "sidt", {sidt [FREE]}
        int     0x80
sldt3:  fault   "sldt", {sldt ax}
        int     0x80
str3:   fault   "str", {str ax}
        int     0x80
smsw3:  fault   "smsw", {smsw ax}
        int     0x80
