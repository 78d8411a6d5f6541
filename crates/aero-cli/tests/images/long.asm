; 64-bit mode: canonical addresses, page faults, what long mode refuses, compatibility mode, and CPL 3.
%include "bare.inc"
start:  long
        mov     rax, 0x800000000000
        fault   "load, not canonical", {mov al, [rax]}
        fault   "store, not canonical", {mov [rax], al}
        mov     rbp, rax
        fault   "through rbp", {mov al, [rbp]}
        fault   "across the edge", {mov eax, [rax - 2]}
        fault   "jump, not canonical", {jmp rax}
        mov     rbx, 0x40000000
        fault   "read, not present", {mov al, [rbx]}
        fault   "write, not present", {mov [rbx], al}
        mov     rbx, 0xffff800000000000
        fault   "upper half, not present", {mov al, [rbx]}
        say     "fetch, not present: "
        expect  .fetch
        mov     ecx, 0x40000010
        mov     [fault_at], ecx
        jmp     rcx
.fetch: newline
        mov     qword [TABLES + 0x2000 + 8], 0x200000 | 0x187
        or      byte [TABLES + 0x2000 + 15], 0x80
        invlpg  [0x200000]
        fault   "read of a NX page", {mov al, [0x200000]}
        mov     ecx, 0x200000
        mov     byte [rcx], 0xc3
        say     "execute of a NX page: "
        expect  .nx
        mov     [fault_at], ecx
        call    rcx
.nx:    newline
        fault   "push es", {db 0x06}
        fault   "daa", {db 0x27}
        fault   "far jump, immediate", {db 0xea}
        fault   "pusha", {db 0x60}
        fault   "into", {db 0xce}
        mov     rax, cr0
        and     eax, 0x7fffffff
        fault   "PG off in 64-bit code", {mov cr0, rax}
        mov     rax, cr4
        and     al, 0xdf
        fault   "PAE off", {mov cr4, rax}
        mov     rax, 1 << 40
        fault   "CR0 above 32 bits", {mov cr0, rax}
        mov     eax, TSS64
        fault   "ltr of a busy TSS", {ltr ax}
        fault   "int 80h gate", {int 0x7f}
        mov     qword [IDT + 0x7f * 16 + 8], 0x8000
        fault   "gate to an address that is not canonical", {int 0x7f}
        ; Compatibility mode and back.
        push    CODE32
        push    .compat
        retfq
        bits    32
.compat:
        say     "compatibility mode, cs "
        mov     eax, cs
        put16   ax
        newline
        mov     ebx, 0xffffffff
        jmp     CODE64:.back
        bits    64
.back:  user    at_cpl3
        finish
at_cpl3:
        mov     eax, cs
        say     "cs "
        put16   ax
        newline
        fault   "hlt at CPL 3", {hlt}
        int     0x80
