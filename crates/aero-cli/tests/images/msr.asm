; MSRs: unknown numbers read zero and swallow writes, reserved bits and values that are not canonical are refused.
; aero: --cpu win7
; oracles: none, they have other models
%include "bare.inc"
start:  long
        mov     ecx, 0x12345678
        fault   "unknown, read", {rdmsr}
        put32   eax
        newline
        fault   "unknown, write", {wrmsr}
%include "msr.inc"
