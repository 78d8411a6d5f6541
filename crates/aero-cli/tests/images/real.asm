; Real mode: interrupt frames, exceptions through the vector table, wrapping offsets and faults at the ends of segments.
%include "bare.inc"
start:  mov     si, vectors
        xor     di, di
        mov     cx, 32
.fill:  mov     ax, [si]
        stosw
        mov     ax, 0
        stosw
        add     si, 2
        loop    .fill
        say     "int: "
        stc
        int     0x1f
        newline
        sti
        say     "divide: "
        mov     bl, 0
        call    mark
        div     bl
        newline
        say     "into: "
        mov     al, 0x7f
        inc     al
        call    mark
        into
        newline
        say     "bound: "
        mov     ax, 9
        call    mark
        bound   ax, [limits]
        newline
        say     "ud2: "
        call    mark
        ud2
        newline
        say     "word at FFFFh: "
        mov     bx, 0xffff
        call    mark
        mov     ax, [bx]
        newline
        say     "word at FFFFh of the stack: "
        mov     bp, bx
        call    mark
        mov     ax, [bp]
        newline
        say     "dword at FFFDh: "
        mov     bx, 0xfffd
        call    mark
        mov     eax, [bx]
        newline
        say     "offset beyond 64 KiB: "
        mov     ebx, 0x10000
        call    mark
        mov     al, [ebx]
        newline
        say     "bx + si wrap: "
        mov     bx, 0xf000
        mov     si, 0x1000 + limits
        mov     ax, [bx + si]
        put16   ax
        newline
        say     "string byte wrap: "
        mov     si, 0xffff
        lodsb
        put16   si
        newline
        say     "lidt then int: "
        lidt    [.short]
        call    mark
        int     0x1f
        newline
        lidt    [idtr_real]
        say     "mov cs: "
        call    mark
        db      0x8e, 0xc8
        newline
        say     "push sp: "
        mov     ax, sp
        push    sp
        pop     bx
        sub     ax, bx
        put16   ax
        newline
        finish
.short: dw      0x1f * 4 + 2
        dd      0

mark:   push    bp
        mov     bp, sp
        push    ax
        mov     ax, [bp + 2]
        mov     [fault_at], ax
        pop     ax
        pop     bp
        ret

vectors:
%assign n 0
%rep 32
        dw      handler + n * 6
%assign n n+1
%endrep
handler:
%assign n 0
%rep 32
        push    strict word n
        jmp     strict near shared
%assign n n+1
%endrep
; Prints vector, offset and flags, and goes on behind the instruction if it was a fault.
shared: push    bp
        mov     bp, sp
        push    ax
        push    bx
        say     "#"
        put8    [bp + 2]
        say     "+"
        mov     ax, [bp + 4]
        sub     ax, [fault_at]
        put8    al
        say     " flags "
        mov     ax, [bp + 8]
        and     ax, 0x0301
        put16   ax
        pushf
        pop     ax
        and     ax, 0x0300
        say     " inside "
        put16   ax
        mov     bx, [bp + 4]
        mov     al, [bx]
        cmp     byte [bp + 2], 0x1f
        je      .trap
        cmp     byte [bp + 2], 4
        je      .trap
        mov     bx, [fault_at]
        xor     ax, ax
        mov     al, [bx]
        ; Lengths of the instructions above, by their first byte.
        mov     bx, 2
        cmp     al, 0x62
        jne     .short
        mov     bx, 4
.short: cmp     al, 0x8b
        jne     .plain
        push    si
        mov     si, [fault_at]
        cmp     byte [si + 1], 0x46
        pop     si
        jne     .plain
        mov     bx, 3
.plain: cmp     al, 0x66
        je      .three
        cmp     al, 0x67
        jne     .go
.three: mov     bx, 3
.go:    add     [bp + 4], bx
.trap:  pop     bx
        pop     ax
        pop     bp
        add     sp, 2
        iret
limits: dw      1, 4
