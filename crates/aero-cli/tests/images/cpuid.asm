; CPUID of the model win7: vendor, brand, leaves that are there and those beyond.
; aero: --cpu win7
; oracles: none, they have other models
%include "bare.inc"
start:  protected
        mov     esi, leaves
.next:  lodsd
        cmp     eax, -1
        je      .names
        mov     edi, eax
        say     "leaf "
        put32   edi
        say     ": "
        xor     ecx, ecx
        cpuid
        cmp     edi, 1
        jne     .all
        and     ebx, 0x0000ffff         ; the APIC's number and the like
.all:   put32   eax
        say     " "
        put32   ebx
        say     " "
        put32   ecx
        say     " "
        put32   edx
        newline
        jmp     .next
.names: xor     eax, eax
        cpuid
        mov     [FREE], ebx
        mov     [FREE + 4], edx
        mov     [FREE + 8], ecx
        mov     byte [FREE + 12], 10
        mov     byte [FREE + 13], 0
        mov     esi, FREE
        call    puts32
        finish
leaves: dd      0, 1, 7, 0x80000000, 0x80000001, 0x80000008, -1
