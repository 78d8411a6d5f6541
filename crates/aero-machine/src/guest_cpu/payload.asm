; The payloads of the guest CPU throughput suite: one multiboot kernel for 32 bits and one for 64 (nasm -D BITS=...).
;
; The host writes the number of a test to `order` and its repetitions to `turns`. The kernel fills the memory that the
; tests read, turns paging on (large pages, everything where it is), and then for ever: runs the test, writes the result
; to port E9h, low byte first, and stops the machine by port F4h until the host lets it go on. `model.rs` computes the
; same; payload32.hex and payload64.hex are what this assembles to, and a test says so if they are not.
%define MAGIC   0x1badb002
%define FLAGS   0x10003
%define TABLES  0x200000                ; page tables
%define STACK   0x300000
%define SOURCE  0x400000                ; 4 MiB: dword N is N * 9E3779B1h
%define TARGET  0x800000                ; 4 MiB
%define SPAN    0x400000
%define WORD    (BITS / 8)

%if BITS == 64
%define A       rax
%define B       rbx
%define C       rcx
%define D       rdx
%define S       rsi
%define SP      rsp
%define SEED    0x9E3779B97F4A7C15
%define word_   dq
%else
%define A       eax
%define B       ebx
%define C       ecx
%define D       edx
%define S       esi
%define SP      esp
%define SEED    0x9E3779B9
%define word_   dd
%endif

        org     0x100000
        bits    32
header: dd      MAGIC, FLAGS, -(MAGIC + FLAGS), header, header, image_end, STACK, start
order:  dd      0
turns:  dd      1

start:  mov     esp, STACK
        lgdt    [gdtr]
        mov     eax, 0x10
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        mov     edi, SOURCE
        xor     eax, eax
.fill:  mov     [edi], eax
        add     eax, 0x9E3779B1
        add     edi, 4
        cmp     edi, SOURCE + SPAN
        jb      .fill
        mov     edi, TABLES
%if BITS == 64
        mov     dword [edi], TABLES + 0x1000 + 3
        mov     dword [edi + 0x1000], TABLES + 0x2000 + 3
        add     edi, 0x2000
        mov     eax, 0x83               ; 2 MiB, writable, present
.page:  mov     [edi], eax
        add     edi, 8
        add     eax, 0x200000
        cmp     eax, 0x40000000
        jb      .page
        mov     eax, cr4
        or      eax, 1 << 5             ; PAE
        mov     cr4, eax
        mov     ecx, 0xc0000080         ; EFER.LME
        rdmsr
        or      eax, 1 << 8
        wrmsr
%else
        mov     eax, 0x83               ; 4 MiB, writable, present
.page:  mov     [edi], eax
        add     edi, 4
        add     eax, 0x400000
        jnc     .page
        mov     eax, cr4
        or      eax, 1 << 4             ; PSE
        mov     cr4, eax
%endif
        mov     eax, TABLES
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 1 << 31
        mov     cr0, eax
%if BITS == 64
        jmp     0x18:run
%else
        jmp     0x08:run
%endif

        bits    BITS
run:    mov     eax, [order]
        mov     ecx, [turns]
        call    [tests + A * WORD]
        mov     ecx, WORD
.byte:  out     0xe9, al
        shr     A, 8
        dec     ecx
        jnz     .byte
        xor     eax, eax
        out     0xf4, al
        jmp     run

; Dependent and independent additions, rotations, products and shifts.
alu:    mov     A, SEED
        mov     B, 12345
        mov     D, 67890
.turn:  add     A, B
        rol     B, 7
        xor     B, A
        imul    D, A, 0x4d
        sub     D, B
        mov     S, A
        shr     S, 3
        xor     A, S
        lea     B, [B + D * 4 + 5]
        add     A, D
        adc     B, 0
        not     D
        dec     C
        jnz     .turn
        add     A, B
        xor     A, D
        ret

; Branches that follow the count.
predictable:
        mov     A, SEED
        xor     ebx, ebx
.turn:  test    cl, 7
        jnz     .not_eighth
        add     A, C
.not_eighth:
        test    cl, 1
        jz      .even
        xor     A, 0x55
.even:  test    C, C
        js      .never
        inc     B
        cmp     B, 1
        je      .first
        add     A, 3
.first: dec     C
        jnz     .turn
        add     A, B
        ret
.never: mov     A, 777
        ret

; Branches that follow a xorshift generator (Marsaglia 2003): nothing foresees them.
unpredictable:
        xor     eax, eax
        mov     D, SEED
.turn:  mov     S, D
        shl     S, 13
        xor     D, S
        mov     S, D
%if BITS == 64
        shr     S, 7
        xor     D, S
        mov     S, D
        shl     S, 17
%else
        shr     S, 17
        xor     D, S
        mov     S, D
        shl     S, 5
%endif
        xor     D, S
        test    dl, 0x10
        jz      .clear
        add     A, D
        jmp     .next
.clear: xor     A, D
.next:  test    dh, 2
        jnz     .odd
        inc     A
.odd:   cmp     dl, 0x80
        jb      .low
        rol     A, 1
.low:   dec     C
        jnz     .turn
        ret

; Running sums of 64 KiB, word by word, stored elsewhere.
sequential:
        xor     eax, eax
        xor     esi, esi
        mov     [TARGET + 0x8000], A
.turn:  add     A, [SOURCE + S]
        mov     [TARGET + S], A
        add     S, WORD
        and     S, 0xffff
        dec     C
        jnz     .turn
        xor     A, [TARGET + 0x8000]
        ret

; The same with steps of a page and a cache line through 4 MiB.
strided:
        xor     eax, eax
        xor     esi, esi
        mov     [TARGET], A
.turn:  add     A, [SOURCE + S]
        mov     [TARGET + S], A
        add     S, 4096 + 64
        and     S, SPAN - 1
        dec     C
        jnz     .turn
        xor     A, [TARGET]
        ret

; Two calls a turn, one inside the other.
calls:  mov     A, SEED
.turn:  mov     S, C
        call    .outer
        dec     C
        jnz     .turn
        ret
.outer: push    S
        lea     S, [S + 3]
        call    .inner
        pop     S
        xor     A, S
        ret
.inner: add     A, S
        rol     A, 5
        ret

        align   8
tests:  word_   alu, predictable, unpredictable, sequential, strided, calls
gdt:    dq      0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff
gdtr:   dw      4 * 8 - 1
        dd      gdt
image_end:
