; String instructions that fault half way: registers and memory say how far they came, and they can be run again.
; oracles: not Bochs, which has written half of PUSHAD when it faults
%include "bare.inc"
%define TAB     TABLES + 0x1000
start:  protected
        mov     edi, TABLES
        xor     eax, eax
        mov     ecx, 0x2000 / 4
        rep     stosd
        mov     dword [TABLES], TAB + 7
        mov     edi, TAB
        mov     eax, 7
        mov     ecx, 256
.fill:  stosd
        add     eax, 0x1000
        loop    .fill
        mov     dword [TAB + 0x51 * 4], 0
        mov     eax, TABLES
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax

        mov     esi, image_start
        mov     edi, 0x50ffa
        mov     ecx, 5
        fault   "movsd into a page that is not there", {rep movsd}
        call    show
        mov     esi, 0x50ff9
        mov     edi, FREE
        mov     ecx, 9
        fault   "movsb from it", {rep movsb}
        call    show
        std
        mov     esi, FREE + 0x100
        mov     edi, 0x52003
        mov     ecx, 9
        fault   "movsb down into it", {rep movsb}
        call    show
        mov     edi, 0x52004
        mov     al, 0
        mov     ecx, 9
        fault   "scasb down", {repne scasb}
        call    show
        cld
        mov     edi, 0x50ff0
        mov     eax, 0x12345678
        mov     ecx, 0x1000
        fault   "stosd", {rep stosd}
        call    show
        put32   [0x50ffc]
        newline
        mov     ecx, 0
        mov     edi, 0x51000
        fault   "count 0", {rep stosb}
        call    show
        mov     esp, 0x51010
        mov     dword [resume], .pushed
        mov     dword [fault_at], .pusha
        mov     dword [IDT + 14 * 8], TSS2 << 16
        mov     dword [IDT + 14 * 8 + 4], 0x8500
        mov     dword [tss2 + 0x1c], TABLES
        other_task .pushed
        mov     dword [0x50ff0], 0
        mov     esp, 0x52000
        mov     dword [TAB + 0x51 * 4], 0x51007
        mov     dword [TAB + 0x50 * 4], 0
        mov     eax, cr3
        mov     cr3, eax
        mov     esp, 0x51008
.pusha: pushad
.pushed:
        pop     eax
        say     "pushad across: error "
        put32   eax
        say     " esp "
        put32   [tss + 0x38]
        say     " memory "
        put32   [0x51004]
        newline
        finish
show:   say     "  esi "
        put32   esi
        say     " edi "
        put32   edi
        say     " ecx "
        put32   ecx
        newline
        ret
