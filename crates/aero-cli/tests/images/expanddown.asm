; Expand-down segments: valid above the limit; and limits checked by the byte, in pages, and across the end.
%include "bare.inc"
start:  protected
        mov     ax, DOWN
        mov     es, ax
        fault   "at the limit", {mov al, [es:0x1fff]}
        fault   "above it", {mov al, [es:0x2000]}
        fault   "across it", {mov ax, [es:0x1fff]}
        fault   "at the top", {mov al, [es:0xfffff000]}
        ; 16 bits: the top is FFFFh.
        and     byte [gdt + DOWN + 6], 0xbf
        mov     ax, DOWN
        mov     es, ax
        fault   "16-bit, FFFFh", {mov al, [es:0xffff]}
        fault   "16-bit, 10000h", {mov al, [es:0x10000]}
        fault   "16-bit, across", {mov ax, [es:0xffff]}
        ; In pages: limit 1FFFFFFh.
        or      byte [gdt + DOWN + 6], 0xc0
        mov     ax, DOWN
        mov     es, ax
        fault   "pages, at the limit", {mov al, [es:0x1ffffff]}
        fault   "pages, above it", {mov al, [es:0x2000000]}
        mov     ax, DOWN
        mov     ss, ax
        mov     esp, 0x1ffffff
        mov     dword [resume], .stack
        mov     dword [fault_at], .push
        mov     dword [IDT + 12 * 8], TSS2 << 16
        mov     dword [IDT + 12 * 8 + 4], 0x8500
        other_task .task
.push:  push    eax
.stack: jmp     $
.task:  say     "push below the limit: #0C("
        pop     eax
        put16   ax
        say     ") esp "
        put32   [tss + 0x38]
        newline
        finish
