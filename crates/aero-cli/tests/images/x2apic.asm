; The local APIC in x2APIC mode: registers as MSRs, the self-IPI register, and what is refused.
%include "bare.inc"
start:  protected
        mov     ecx, 0x802
        fault   "x2APIC register in xAPIC mode", {rdmsr}
        mov     ecx, 0x1b
        rdmsr
        or      eax, 0x400
        wrmsr
        fault   "enabled: id", {nop}
        mov     ecx, 0x802
        rdmsr
        put32   eax
        newline
        mov     ecx, 0x80f
        mov     eax, 0x1ff
        xor     edx, edx
        wrmsr
        mov     dword [hooks + 0x41 * 4], hit
        say     "self-IPI: "
        sti
        mov     ecx, 0x83f
        mov     eax, 0x41
        wrmsr
        nop
        cli
        newline
        mov     ecx, 0x80e
        fault   "DFR", {rdmsr}
        mov     ecx, 0x802
        fault   "write of the id", {wrmsr}
        mov     ecx, 0x80b
        mov     eax, 1
        fault   "EOI of 1", {wrmsr}
        mov     ecx, 0x80b
        fault   "read of EOI", {rdmsr}
        mov     ecx, 0x808
        mov     eax, 0x100
        fault   "TPR above 8 bits", {wrmsr}
        mov     ecx, 0x831
        fault   "ICR high", {rdmsr}
        mov     ecx, 0x1b
        rdmsr
        and     eax, ~0x800
        fault   "EN cleared, EXTD kept", {wrmsr}
        rdmsr
        and     eax, ~0x400
        or      eax, 0x800
        fault   "back to xAPIC", {wrmsr}
        finish
hit:    say     "[41h]"
        mov     ecx, 0x80b
        xor     eax, eax
        xor     edx, edx
        wrmsr
        ret
