; ROM: writes to it change nothing, at 4 GiB as below 1 MiB; and the host bridge's PAM registers put RAM in its place,
; for writes first and then for reads.
%include "bare.inc"
%define LOW     0xf0000
%define HIGH    0xffff0000
start:  protected
        say     "same bytes: "
        mov     eax, [LOW]
        sub     eax, [HIGH]
        put32   eax
        mov     eax, [LOW + 0xfff0]
        say     " reset vector "
        put32   eax
        newline
        mov     ebx, [LOW]
        not     dword [LOW]
        not     dword [HIGH]
        say     "written: "
        mov     eax, [LOW]
        sub     eax, ebx
        put32   eax
        mov     eax, [HIGH]
        sub     eax, ebx
        put32   eax
        newline
        ; Writes to RAM, reads from ROM: copies the ROM onto itself.
        mov     al, 0x20
        call    pam0
        mov     esi, LOW
        mov     edi, LOW
        mov     ecx, 0x10000 / 4
        rep     movsd
        mov     dword [LOW], 0x5eed5eed
        say     "hidden: "
        mov     eax, [LOW]
        sub     eax, ebx
        put32   eax
        newline
        mov     al, 0x10
        call    pam0
        say     "RAM, read-only: "
        put32   [LOW]
        mov     dword [LOW], 0
        say     " "
        put32   [LOW]
        say     " vector "
        put32   [LOW + 0xfff0]
        newline
        mov     al, 0x30
        call    pam0
        mov     dword [LOW], 0x12345678
        say     "RAM: "
        put32   [LOW]
        mov     eax, [HIGH]
        sub     eax, ebx
        say     " the top stays "
        put32   eax
        newline
        ; Code runs from the RAM at once.
        mov     word [LOW + 0x100], 0xc340
        mov     eax, 1
        mov     ecx, LOW + 0x100
        call    ecx
        put32   eax
        mov     al, 0
        call    pam0
        say     " ROM again: "
        mov     eax, [LOW]
        sub     eax, ebx
        put32   eax
        newline
        finish
pam0:   push    eax
        mov     dx, 0xcf8
        mov     eax, 0x80000058
        out     dx, eax
        mov     dx, 0xcfd
        pop     eax
        out     dx, al
        ret
