; 32-bit paging: error codes and CR2, accessed and dirty bits, WP, user and supervisor, 4 MiB pages, PSE-36's
; reserved bits, INVLPG.
%include "bare.inc"
%define DIR     TABLES
%define TAB     TABLES + 0x1000
%define PAGE    0x50000
%define ENTRY   TAB + (PAGE >> 12) * 4
start:  protected
        mov     edi, DIR
        xor     eax, eax
        mov     ecx, 0x2000 / 4
        rep     stosd
        mov     dword [DIR], TAB + 7
        mov     edi, TAB
        mov     eax, 7
        mov     ecx, 256
.fill:  stosd
        add     eax, 0x1000
        loop    .fill
        mov     eax, DIR
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax

        call    show
        mov     al, [PAGE]
        call    show
        mov     [PAGE], al
        call    show
        mov     dword [ENTRY], PAGE | 5
        invlpg  [PAGE]
        mov     [PAGE], al
        say     "read-only, WP clear: "
        call    show
        mov     eax, cr0
        or      eax, 0x10000
        mov     cr0, eax
        mov     dword [ENTRY], PAGE | 5
        invlpg  [PAGE]
        fault   "read-only, WP set", {mov [PAGE + 0x123], al}
        call    show
        mov     dword [ENTRY], 0
        invlpg  [PAGE]
        fault   "read, not present", {mov al, [PAGE + 0xfff]}
        fault   "write, not present", {inc byte [PAGE]}
        fault   "read across into it", {mov eax, [PAGE - 2]}
        mov     dword [PAGE - 4], 0x11223344
        fault   "write across into it", {mov [PAGE - 2], eax}
        say     "what lay before it: "
        put32   [PAGE - 4]
        newline
        expect  .fetched
        mov     dword [fault_at], PAGE
        say     "fetch, not present: "
        jmp     CODE32:PAGE
.fetched:
        newline
        mov     dword [ENTRY], PAGE | 3
        invlpg  [PAGE]
        user    at_cpl3

        say     "4 MiB pages without PSE: "
        mov     dword [DIR + 4], 0x83
        mov     dword [TABLES + 0x2000], 0
        expect  .small
        mov     al, [0x400000]
        say     "no fault"
.small: newline
        mov     eax, cr4
        or      al, 0x10
        mov     cr4, eax
        mov     dword [DIR + 4], 0x83
        fault   "4 MiB page", {mov al, [0x400000]}
        say     "entry "
        put32   [DIR + 4]
        newline
        mov     dword [DIR + 4], 0x83 | 1 << 21
        mov     eax, cr3
        mov     cr3, eax
        fault   "reserved bit", {mov al, [0x400000]}
        mov     dword [DIR + 4], 0
        finish

at_cpl3:
        fault   "user read of a supervisor page", {mov al, [PAGE]}
        int     0x80

show:   say     "entry "
        put32   [ENTRY]
        newline
        ret
