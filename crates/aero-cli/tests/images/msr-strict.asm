; MSRs with strict-msr: unknown numbers fault.
; aero: --cpu win7,strict-msr
; oracles: none
%include "bare.inc"
start:  long
        mov     ecx, 0x12345678
        fault   "unknown, read", {rdmsr}
        fault   "unknown, write", {wrmsr}
%include "msr.inc"
