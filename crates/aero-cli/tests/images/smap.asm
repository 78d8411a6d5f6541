; SMEP and SMAP, with the code in a supervisor page and data in the user's.
%include "bare.inc"
%define USER    0x200000
start:  long
        and     byte [TABLES + 0x2000], ~4
        mov     rax, cr3
        mov     cr3, rax
        mov     byte [USER], 0xc3
        mov     rax, cr4
        or      eax, 1 << 20
        mov     cr4, rax
        say     "SMEP, call of a user page: "
        expect  .smep
        mov     dword [fault_at], USER
        mov     ecx, USER
        call    rcx
        say     "no fault"
.smep:  newline
        fault   "read with SMAP clear", {mov al, [USER]}
        mov     rax, cr4
        or      eax, 1 << 21
        mov     cr4, rax
        fault   "SMAP: read", {mov al, [USER]}
        fault   "SMAP: write", {mov [USER], al}
        stac
        mov     al, [USER]
        say     "after stac: "
        put8    al
        newline
        clac
        fault   "after clac", {mov al, [USER]}
        finish
