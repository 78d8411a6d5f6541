; MSRs with strict-msr: unknown numbers fault.
; aero: --cpu win7,strict-msr
; oracles: none
%include "bare.inc"
start:  long
        mov     ecx, 0x12345678
        fault   "unknown, read", {rdmsr}
        fault   "unknown, write", {wrmsr}
        mov     ecx, 0xc0000100
        xor     eax, eax
        mov     edx, 0x8000
        fault   "FS base, not canonical", {wrmsr}
        mov     ecx, 0xc0000080
        rdmsr
        or      eax, 0x4
        fault   "EFER, reserved bit", {wrmsr}
        rdmsr
        and     eax, ~0x100
        fault   "EFER.LME cleared while paging", {wrmsr}
        mov     ecx, 0x277
        mov     eax, 2
        xor     edx, edx
        fault   "PAT, reserved type", {wrmsr}
        mov     ecx, 0x2ff
        mov     eax, 2
        fault   "MTRR default, reserved type", {wrmsr}
        mov     ecx, 0x1b
        fault   "APIC base", {rdmsr}
        put32   edx
        put32   eax
        newline
        mov     ecx, 0xfe
        fault   "MTRRcap", {rdmsr}
        user    at_cpl3
        finish
at_cpl3:
        fault   "rdmsr at CPL 3", {rdmsr}
        int     0x80
