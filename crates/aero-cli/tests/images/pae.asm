; PAE paging: NX, reserved bits, directory pointers checked when CR3 is loaded, 2 MiB pages, accessed and dirty bits.
%include "bare.inc"
%define PDPT    TABLES
%define DIR     TABLES + 0x1000
%define TAB     TABLES + 0x2000
%define PAGE    0x50000
%define ENTRY   TAB + (PAGE >> 12) * 8
start:  protected
        mov     edi, PDPT
        xor     eax, eax
        mov     ecx, 0x3000 / 4
        rep     stosd
        mov     dword [PDPT], DIR + 1
        mov     dword [DIR], TAB + 7
        mov     dword [DIR + 8], 0x200000 | 0x87
        mov     edi, TAB
        mov     eax, 7
        mov     ecx, 256
.fill:  mov     [edi], eax
        add     edi, 8
        add     eax, 0x1000
        loop    .fill
        mov     eax, cr4
        or      al, 0x20
        mov     cr4, eax
        mov     eax, PDPT
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80010000
        mov     cr0, eax
        mov     byte [PAGE], 0xc3
        call    show
        fault   "execute", {call PAGE}
        mov     dword [ENTRY + 4], 0x80000000
        call    flush
        fault   "NX reserved while EFER.NXE is clear", {mov al, [PAGE]}
        mov     ecx, 0xc0000080
        rdmsr
        or      eax, 0x800
        wrmsr
        call    flush
        fault   "read of a NX page", {mov al, [PAGE]}
        mov     dword [resume], .nx
        mov     [resume_sp], esp
        mov     dword [fault_at], PAGE
        say     "execute of a NX page: "
        call    PAGE
        say     "no fault"
.nx:    newline
        mov     dword [ENTRY + 4], 0x100000
        call    flush
        fault   "reserved address bit", {mov [PAGE], al}
        mov     dword [ENTRY + 4], 0
        mov     dword [ENTRY], PAGE + 1
        call    flush
        fault   "store to a read-only page", {mov [PAGE], al}
        fault   "2 MiB page", {mov [0x200000], al}
        say     "entry "
        put32   [DIR + 8]
        newline
        mov     dword [DIR + 8], 0x200000 | 0x2087
        call    flush
        fault   "2 MiB page with a reserved bit", {mov al, [0x200000]}
        mov     dword [PDPT + 8], 0
        fault   "not present directory pointer", {mov al, [0x40000000]}
        mov     dword [PDPT + 8], 0x1e7
        fault   "pointer changed in memory only", {mov al, [0x40000000]}
        mov     eax, cr3
        fault   "reserved bits of a pointer", {mov cr3, eax}
        finish
flush:  mov     eax, cr3
        mov     cr3, eax
        ret
show:   say     "entry "
        put32   [ENTRY + 4]
        put32   [ENTRY]
        newline
        ret
