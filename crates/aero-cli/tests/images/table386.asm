; The 80386's instruction set in one pass, as a processor test ROM goes through it: a POST code before each part, and a
; line for each instruction with results of some operands and a digest of the results of all. Flags that the manual
; leaves undefined (SDM vol. 1, appendix A) are masked, by a list of its own for each instruction.
; aero: --cpu max --post-port 0x190
%include "bare.inc"
%define CF      0x001
%define PF      0x004
%define AF      0x010
%define ZF      0x040
%define SF      0x080
%define OF      0x800
%define ALL     (CF | PF | AF | ZF | SF | OF)
%define WINDOW  SPARE           ; 64 KiB at FREE
%define PROBE   SPARE + 8       ; of every type
%define STACK16 SPARE + 16
%define CODES   0xf800          ; where code is written to be run
%define AT      0x400000        ; the page whose rights change

%macro  post 1
        push    dx
        push    ax
        mov     dx, 0x190
        mov     al, %1
        out     dx, al
        pop     ax
        pop     dx
%endmacro
%macro  mix 1
        push    eax
%ifnidni %1, eax
        mov     eax, %1
%endif
        call    mixer%[__?BITS?__]
        pop     eax
%endmacro
%macro  digest 1
        say     %1
        put32   [sum]
        newline
        mov     dword [sum], 0
%endmacro
%macro  mixers 1
        bits    %1
mixer%1:
        pushfd
        xor     eax, [sum]
        imul    eax, eax, 0x01000193
        rol     eax, 13
        mov     [sum], eax
        popfd
        ret
%endmacro

; All conditions for all flags: JCC in three sizes, SETCC, CMOVCC.
%macro  conditions 0
        mov     dword [index], 63
%%next: mov     ecx, [index]
        mov     edx, 2
        xor     ebx, ebx
%%spread:
        shr     ecx, 1
        jnc     %%clear
        movzx   eax, byte [ebx + flag_bits]
        bts     edx, eax
%%clear:
        inc     ebx
        cmp     ebx, 6
        jb      %%spread
        mov     [flags], edx
%assign n 0
%rep    16
        xor     ebx, ebx
        xor     edx, edx
        mov     eax, 0x11111111
        mov     ecx, 0x22222222
        push    dword [flags]
        popfd
        db      0x70 + n, 2
        mov     bl, 1
        db      0x0f, 0x80 + n
%if __?BITS?__ == 16
        dw      2
%else
        dd      2
%endif
        mov     bh, 1
        db      0x66, 0x0f, 0x80 + n
%if __?BITS?__ == 16
        dd      2
%else
        dw      2
%endif
        mov     dl, 1
        db      0x0f, 0x90 + n, 0xc6    ; DH
        db      0x0f, 0x40 + n, 0xc1    ; eAX, eCX
        mix     ebx
        mix     edx
        mix     eax
%assign n n+1
%endrep
        dec     dword [index]
        jns     %%next
%endmacro

; LOOP and JCXZ with either counter, from counts at which they differ.
%macro  loops_from 1
        mov     ecx, %1
        xor     ebx, ebx
%%a16:  inc     ebx
        loop    %%a16, cx
        mix     ebx
        mix     ecx
%if %1 != 0
        mov     ecx, %1
        xor     ebx, ebx
%%a32:  inc     ebx
        loop    %%a32, ecx
        mix     ebx
        mix     ecx
%endif
        mov     ecx, %1
        xor     ebx, ebx
%%e:    inc     ebx
        test    bl, 4
        loope   %%e, cx
        mix     ebx
        mix     ecx
        mov     ecx, %1
        xor     ebx, ebx
%%ne:   inc     ebx
        test    bl, 3
        loopne  %%ne, ecx
        mix     ebx
        mix     ecx
        mov     ecx, %1
        xor     ebx, ebx
        jcxz    %%z16
        or      bl, 1
%%z16:  jecxz   %%z32
        or      bl, 2
%%z32:  mix     ebx
%endmacro
%macro  loops 0
        loops_from 0
        loops_from 1
        loops_from 2
        loops_from 7
        loops_from 0x10000
        loops_from 0x1fffe
%endmacro

; String instructions with every address size, repeat prefix, segment and direction, written and run.
%macro  strings 1               ; selector of the window
        mov     dword [index], 15 * 2 * 3 * 3 * 2 - 1
%%next: mov     eax, [index]
        mov     edi, CODES
        xor     edx, edx
        mov     ecx, 2
        div     ecx
        imul    edx, edx, 0x400
        or      edx, 2
        mov     [flags], edx
        mov     ecx, 3
        xor     edx, edx
        div     ecx
        mov     dl, [edx + string_segments]
        call    %%put
        xor     edx, edx
        div     ecx
        mov     dl, [edx + string_repeats]
        call    %%put
        mov     ecx, 2
        xor     edx, edx
        div     ecx
        mov     dl, [edx + string_addresses]
        call    %%put
        mov     dx, [eax * 2 + string_opcodes]
        call    %%put
        mov     dl, dh
        call    %%put
        mov     dl, 0xc3
        call    %%put
        mov     ax, %1
        mov     es, ax
        mov     fs, ax
        mov     edi, 0x7c
%%fill: mov     eax, edi
        shr     eax, 2
        imul    eax, eax
        and     eax, 0x7b
        imul    eax, eax, 0x01020100
        add     eax, 0x37
        mov     [es:edi], eax
        sub     edi, 4
        jns     %%fill
        push    dword [flags]
        mov     ax, %1
        mov     ds, ax
        mov     eax, 0x02040037
        mov     ecx, 5
        mov     esi, 0x30
        mov     edi, 0x50
        popfd
%if __?BITS?__ == 16
        call    CODES
        pushfd
        cld
        push    word 0
        pop     ds
%else
        call    CODES
        pushfd
        cld
        push    dword DATA
        pop     ds
%endif
        mix     eax
        mix     ecx
        mix     esi
        mix     edi
        pop     eax
        and     eax, ALL | 0x400
        mix     eax
        mov     edi, 0x7c
%%sum:  mix     [es:edi]
        sub     edi, 4
        jns     %%sum
        dec     dword [index]
        jns     %%next
        jmp     %%done
%%put:  test    dl, dl
        jz      %%none
        mov     [edi], dl
        inc     edi
%%none: ret
%%done:
%endmacro

; Runs an instruction on EAX = a, EBX = ECX = EDX = b for all pairs of operands and two sets of flags, and prints
; results of four pairs. Name, flags that are defined, instruction.
%macro  op 3+
        say     %1
        mov     dword [code], %%code
        mov     dword [mask], %2
        call    sweep
        jmp     %%on
%%code: %3
        ret
%%on:
%endmacro
%macro  binary 2-3 ALL
        op      {%2, " 8: "}, %3, %1 al, dl
        op      {%2, " 16: "}, %3, %1 ax, dx
        op      {%2, " 32: "}, %3, %1 eax, edx
%endmacro
%macro  unary 2-3 ALL
        op      {%2, " 8: "}, %3, %1 al
        op      {%2, " 16: "}, %3, %1 ax
        op      {%2, " 32: "}, %3, %1 eax
%endmacro
%macro  product 3
        op      {%2, " 8: "}, %3, %1 dl
        op      {%2, " 16: "}, %3, %1 bx
        op      {%2, " 32: "}, %3, %1 ebx
%endmacro
; By every count from 0 to 33, with the flags that the count leaves defined.
%macro  shift 3                 ; mnemonic, name, flags for a count of more than 1
        say     %2, ": "
        mov     dword [mask], %3
        mov     byte [double], 0
        mov     dword [code], %%b8
        mov     byte [width], 8
        call    shifts
        mov     dword [code], %%b16
        mov     byte [width], 16
        call    shifts
        mov     dword [code], %%b32
        mov     byte [width], 32
        call    shifts
        digest  ""
        jmp     %%on
%%b8:   %1      al, cl
        ret
%%b16:  %1      ax, cl
        ret
%%b32:  %1      eax, cl
        ret
%%on:
%endmacro
%macro  double_shift 2
        say     %2, ": "
        mov     dword [mask], CF | PF | ZF | SF
        mov     byte [double], 1
        mov     dword [code], %%b16
        mov     byte [width], 16
        call    shifts
        mov     dword [code], %%b32
        mov     byte [width], 32
        call    shifts
        digest  ""
        jmp     %%on
%%b16:  %1      ax, dx, cl
        ret
%%b32:  %1      eax, edx, cl
        ret
%%on:
%endmacro

        bits    16
start:  post    1
        conditions
        digest  "conditions 16: "
        post    2
        loops
        digest  "loops 16: "
        post    3
        xor     ebx, ebx
.sahf:  mov     ah, bl
        sahf
        pushf
        lahf
        pop     cx
        movzx   eax, ax
        and     cx, ALL
        mix     ecx
        mov     al, 0
        mix     eax
        cmc
        setc    al
        std
        stc
        pushfd
        cld
        clc
        pushf
        pop     dx
        pop     eax
        and     eax, 0x401
        and     edx, 0x401
        mix     eax
        mix     edx
        inc     bl
        jnz     .sahf
        digest  "flags: "
        post    4
        call    segments16
        post    5
        call    exceptions16
        post    6
        call    unreal
        mov     edi, 0x120000
        mov     dword [edi], 0x600dcafe
        mov     ax, 0xffff
        mov     es, ax
        mov     eax, [edi]
        say     "four gigabytes in real mode: "
        put32   eax
        newline
        post    7
        strings 0x3000
        digest  "strings 16: "
        xor     ax, ax
        mov     es, ax
        mov     fs, ax
        post    8
        protected
        mov     word [spare], 0xffff
        mov     dword [spare + 2], 0x93000000 | FREE
        mov     word [spare + 6], 0x40
        mov     word [spare + 16], 0xffff
        mov     dword [spare + 18], 0x93000000 | FREE
        mov     word [spare + 22], 0
        mov     ax, LDT
        lldt    ax
        mov     ax, 0x0c
        mov     es, ax
        mov     dword [es:4], 0x1d71d71d
        sldt    eax
        say     "ldt "
        put32   eax
        str     eax
        say     " tr "
        put32   eax
        say     " window "
        put32   [FREE + 4]
        newline
        fault   "beyond its limit", {mov eax, [es:0xfd]}
        mov     ax, DATA
        mov     es, ax
        post    9
        conditions
        digest  "conditions 32: "
        loops
        digest  "loops 32: "
        post    10
        strings WINDOW
        digest  "strings 32: "
        mov     ax, DATA
        mov     es, ax
        mov     fs, ax
        mov     dword [hooks], divided
        post    11
        binary  add, "add"
        binary  adc, "adc"
        binary  sub, "sub"
        binary  sbb, "sbb"
        binary  cmp, "cmp"
        binary  and, "and", ALL & ~AF
        binary  or, "or", ALL & ~AF
        binary  xor, "xor", ALL & ~AF
        binary  test, "test", ALL & ~AF
        binary  xchg, "xchg"
        binary  xadd, "xadd"
        binary  cmpxchg, "cmpxchg"
        unary   inc, "inc"
        unary   dec, "dec"
        unary   neg, "neg"
        unary   not, "not"
        op      "bswap: ", ALL, bswap eax
        op      "cbw: ", ALL, cbw
        op      "cwde: ", ALL, cwde
        op      "cwd: ", ALL, cwd
        op      "cdq: ", ALL, cdq
        op      "movsx 16 8: ", ALL, movsx ax, dl
        op      "movsx 32 8: ", ALL, movsx eax, dl
        op      "movsx 32 16: ", ALL, movsx eax, dx
        op      "movzx 16 8: ", ALL, movzx ax, dl
        op      "movzx 32 16: ", ALL, movzx eax, dx
        op      "lea: ", ALL, lea eax, [eax + edx * 8 + 0x12345678]
        op      "lea 16: ", ALL, lea eax, [bx + 0x4321]
        post    12
        product mul, "mul", CF | OF
        product imul, "imul", CF | OF
        op      "imul r, r 16: ", CF | OF, imul ax, dx
        op      "imul r, r 32: ", CF | OF, imul eax, edx
        op      "imul r, r, i 16: ", CF | OF, imul ax, dx, -77
        op      "imul r, r, i 32: ", CF | OF, imul eax, edx, 0x10001
        product div, "div", 0
        product idiv, "idiv", 0
        post    13
        op      "daa: ", CF | PF | AF | ZF | SF, daa
        op      "das: ", CF | PF | AF | ZF | SF, das
        op      "aaa: ", CF | AF, aaa
        op      "aas: ", CF | AF, aas
        op      "aam: ", PF | ZF | SF, aam
        op      "aam 7: ", PF | ZF | SF, aam 7
        op      "aam 0: ", 0, aam 0
        op      "aad: ", PF | ZF | SF, aad
        op      "aad 7: ", PF | ZF | SF, aad 7
        call    bcd
        post    14
        shift   shl, "shl", CF | PF | ZF | SF
        shift   shr, "shr", CF | PF | ZF | SF
        shift   sar, "sar", CF | PF | ZF | SF
        shift   rol, "rol", CF | PF | AF | ZF | SF
        shift   ror, "ror", CF | PF | AF | ZF | SF
        shift   rcl, "rcl", CF | PF | AF | ZF | SF
        shift   rcr, "rcr", CF | PF | AF | ZF | SF
        double_shift shld, "shld"
        double_shift shrd, "shrd"
        post    15
        call    bits32
        post    16
        call    bounds
        post    17
        call    rights
        user    .rights3
        jmp     .paging
.rights3:
        call    rights
        int     0x80
.paging:
        post    18
        call    stacks
        post    19
        call    rings
        post    20
        jmp     paging
last:   post    0xff
        say     "end", 10
        finish

        mixers  16

; Stack instructions, far calls and pointers of both sizes in real mode.
segments16:
        mov     ax, 0x3000
        mov     ss, ax
        mov     esp, 0x200
        mov     eax, 0x11112222
        mov     ebx, 0x33334444
        mov     ecx, 0x55556666
        mov     edx, 0x77778888
        mov     esi, 0x9999aaaa
        mov     edi, 0xbbbbcccc
        mov     ebp, 0xddddeeee
        pusha
        pushad
        popa
        add     sp, 16
        popa
        push    word 0x1234
        push    dword 0x12345678
        push    byte -5
        o32 push byte -5
        push    cs
        push    sp
        push    esp
        o32 push ds
        pop     ebx
        pop     ecx
        enter   10, 0
        push    ax
        enter   4, 3
        o32 enter 6, 2
        mix     esp
        mix     ebp
        o32 leave
        leave
        leave
        mix     esp
        mix     ebp
        call    .near
        push    ax
        call    .parameter
        call    0:.far
        o32 call dword 0:.far32
        mov     bx, .near
        call    bx
        mov     dword [pointer], .far
        call    far [pointer]
        mov     word [pointer + 4], 0
        call    dword far [pointer32]
        push    word 0x0cd7
        popf
        pushf
        pop     ax
        and     ax, 0x0cd5
        cld
        movzx   eax, ax
        mix     eax
        push    dword .iret
        pushf
        push    cs
        push    word .iret
        iret
.iret:  pop     eax
        pushfd
        o32 push cs
        push    dword .iretd
        iretd
.iretd: mix     esp
        mov     dword [pointer], 0x43218765
        mov     word [pointer + 4], 0x1357
        lds     bx, [pointer]
        mov     ax, ds
        push    word 0
        pop     ds
        mix     eax
        les     ebx, [pointer]
        lfs     si, [pointer]
        lgs     edi, [pointer]
        mov     eax, es
        mix     eax
        mov     eax, fs
        mix     eax
        mov     ax, gs
        mix     eax
        mix     ebx
        mix     esi
        mix     edi
        mov     eax, esp
        push    word 0x55aa
        xor     esp, esp
        push    word 0x5a5a             ; wraps below 0
        push    word 0xa5a5
        mix     esp
        pop     cx
        pop     dx
        mix     ecx
        mix     edx
        mov     edi, 0x100
.sum:   mix     [ss:edi]
        add     edi, 4
        cmp     edi, 0x200
        jb      .sum
        xor     ax, ax
        mov     ss, ax
        mov     es, ax
        mov     fs, ax
        mov     gs, ax
        mov     esp, STACK - 2          ; where this was called
        digest  "stack and far transfers 16: "
        ret
.near:  inc     ebp
        ret
.parameter:
        inc     ebp
        ret     2
.far:   inc     ebp
        retf
.far32: inc     ebp
        o32 retf

; What the vector table of real mode gets.
exceptions16:
        mov     edi, 0
        mov     eax, vector16
.fill:  mov     [edi * 4], eax
        add     eax, 5
        inc     edi
        cmp     edi, 32
        jb      .fill
        fault   "divide", {div byte [zero]}
        mov     ax, 0x5000
        fault   "bound", {bound ax, [pointer]}
        mov     al, 0x7f
        inc     al
        fault   "overflow", {into}
        fault   "breakpoint", {int3}
        fault   "int 1eh", {int 0x1e}
        fault   "invalid", {ud2}
        fault   "no real mode: lldt", {lldt ax}
        fault   "no real mode: arpl", {arpl ax, ax}
        fault   "lock", {db 0xf0, 0x90}
        fault   "mov cs", {db 0x8e, 0xc8}
        fault   "beyond 64 KiB", {mov ax, [dword 0xffff]}
        mov     bp, 0xffff
        fault   "beyond 64 KiB of the stack", {mov ax, [bp]}
        mov     eax, 0x80000010
        fault   "not in real mode: page bit alone", {o32 mov cr0, eax}
        ret
vector16:
%assign n 0
%rep    32
        push    byte n
        jmp     strict near .shared
%assign n n+1
%endrep
.shared:
        push    bp
        mov     bp, sp
        say     "#"
        put8    [bp + 2]
        mov     ax, [bp + 4]
        sub     ax, [fault_at]
        say     "+"
        put8    al
        mov     esp, [resume_sp]
        jmp     [resume]

        bits    32
        mixers  32
sweep:  mov     dword [first], operands
.a:     mov     dword [second], operands
.b:     mov     dword [flags], 2
        call    once
        mov     dword [flags], ALL | 2
        call    once
        add     dword [second], 4
        cmp     dword [second], operands_end
        jb      .b
        add     dword [first], 4
        cmp     dword [first], operands_end
        jb      .a
        mov     edi, pairs
.pair:  push    dword [sum]
        push    edi
        mov     [first], edi
        lea     eax, [edi + 4]
        mov     [second], eax
        call    once
        pop     edi
        pop     dword [sum]
        put32   [result]
        say     "/"
        put16   [flags_after]
        say     " "
        add     edi, 8
        cmp     edi, pairs_end
        jb      .pair
        digest  "= "
        ret
; One run of the code.
once:   mov     eax, [first]
        mov     eax, [eax]
        mov     edx, [second]
        mov     edx, [edx]
        mov     ebx, edx
        mov     ecx, edx
        push    dword [flags]
        popfd
        call    [code]
        pushfd
        mov     [result], eax
        mix     eax
        mix     edx
        pop     eax
        and     eax, [mask]
        mov     [flags_after], eax
        mix     eax
        ret
; A divide error: the digest says so, and the code returns at once.
divided:
        mix     0x0de0de
        mov     dword [frame32(F32_EIP)], only_ret
        ret
only_ret:
        ret

; OF is defined for a count of 1 alone, CF of SHL, SHR and the double shifts up to the width (SDM vol. 2). A double
; shift by more than the width is undefined altogether.
shifts: mov     dword [index], 33
.count: mov     dword [first], operands
.next:  mov     eax, [first]
        mov     eax, [eax]
        mov     edx, 0x89ab4567
        mov     ecx, [index]
        xor     ebx, ebx
        mov     ebp, [mask]
        and     ecx, 31
        jnz     .some
        mov     ebp, ALL
.some:  cmp     ecx, 1
        jne     .many
        or      ebp, OF
.many:  cmp     cl, [width]
        jb      .run
        test    byte [mask], AF         ; a rotation
        jnz     .run
        and     ebp, ~CF
        cmp     byte [double], 0
        jne     .skip
.run:   mov     ecx, [index]
        push    dword CF | 2
        popfd
        call    [code]
        pushfd
        mix     eax
        pop     eax
        and     eax, ebp
        mix     eax
.skip:  add     dword [first], 4
        cmp     dword [first], operands_end
        jb      .next
        dec     dword [index]
        jns     .count
        ret

; All of AL with all of AF and CF.
bcd:    mov     dword [hooks], divided
%macro  all_bcd 2
        xor     ebx, ebx
%%next: movzx   eax, bl
        mov     ah, 0x19
        mov     edx, 2
        test    bh, 1
        jz      %%no_cf
        or      edx, CF
%%no_cf:
        test    bh, 2
        jz      %%no_af
        or      edx, AF
%%no_af:
        push    edx
        popfd
        %1
        pushfd
        mix     eax
        pop     eax
        and     eax, %2
        mix     eax
        inc     ebx
        cmp     ebx, 0x400
        jb      %%next
%endmacro
        all_bcd daa, CF | PF | AF | ZF | SF
        digest  "all daa: "
        all_bcd das, CF | PF | AF | ZF | SF
        digest  "all das: "
        all_bcd aaa, CF | AF
        digest  "all aaa: "
        all_bcd aas, CF | AF
        digest  "all aas: "
        all_bcd aam, PF | ZF | SF
        digest  "all aam: "
        all_bcd aad, PF | ZF | SF
        digest  "all aad: "
        ret

; Scans of single bits and of pairs, and bit strings in memory around their address.
bits32: mov     ecx, 32
        xor     edx, edx
.scan:  mov     eax, 0x80000001
        ror     eax, cl
        shr     eax, 1
        call    .both
        mov     eax, 1
        shl     eax, cl
        call    .both
        xor     eax, eax
        bts     eax, ecx
        call    .both
        dec     ecx
        jns     .scan
        digest  "scans: "
        mov     edi, FREE
        mov     ecx, 32
        mov     eax, 0x5a3c96f1
.fill:  stosd
        rol     eax, 3
        loop    .fill
        mov     ecx, -500
.bit:   bt      [FREE + 64], ecx
        call    .carry
        btc     [FREE + 64], cx
        call    .carry
        btr     [FREE + 65], ecx
        call    .carry
        bts     [FREE + 63], cx
        call    .carry
        bt      word [FREE + 64], 13
        call    .carry
        btc     dword [FREE + 64], 45
        call    .carry
        mov     eax, 0x600d5eed
        btr     eax, ecx
        call    .carry
        btc     ax, cx
        call    .carry
        mix     eax
        add     ecx, 7
        cmp     ecx, 500
        jl      .bit
        mov     edi, FREE + 124
.sum:   mix     [edi]
        sub     edi, 4
        cmp     edi, FREE
        jae     .sum
        digest  "bits: "
        ret
.both:  xor     ebx, ebx
        bsf     ebx, eax
        call    .zero
        bsr     ebx, eax
        call    .zero
        bsf     bx, ax
        call    .zero
        bsr     bx, ax
.zero:  setz    dl
        mix     edx
        test    dl, dl
        jnz     .none                   ; the destination is undefined then
        mix     ebx
.none:  xor     ebx, ebx
        ret
.carry: setc    dl
        mix     edx
        ret

bounds: mov     dword [pointer], -3
        mov     dword [pointer + 4], 5
        mov     eax, -3
        fault   "bound at the lower end", {bound eax, [pointer]}
        mov     eax, 5
        fault   "bound at the upper end", {bound eax, [pointer]}
        mov     eax, 6
        fault   "bound above", {bound eax, [pointer]}
        mov     eax, -4
        fault   "bound below", {bound eax, [pointer]}
        mov     dword [pointer], 0x0005fffd
        mov     ax, 6
        fault   "bound 16 above", {bound ax, [pointer]}
        mov     ax, -3
        fault   "bound 16 at the lower end", {bound ax, [pointer]}
        ret

; LAR, LSL, VERR and VERW of a descriptor of every access byte with every RPL, and ARPL of every pair.
rights: mov     dword [index], 0x3ff
.next:  mov     eax, [index]
        mov     [spare + 8 + 5], al
        mov     word [spare + 8], 0x4567
        mov     byte [spare + 8 + 6], 0x80 ; LAR leaves bits 19 to 16 undefined
        shr     eax, 8
        lea     ecx, [eax + PROBE]
        mov     eax, 0x12345678
        lar     eax, ecx
        call    .zero
        mov     eax, 0x12345678
        lsl     eax, ecx
        call    .zero
        mov     eax, 0x12345678
        lar     ax, cx
        call    .zero
        verr    cx
        call    .zero
        verw    cx
        call    .zero
        dec     dword [index]
        jns     .next
        mov     ecx, 15
.arpl:  mov     eax, ecx
        shr     eax, 2
        mov     edx, ecx
        and     edx, 3
        arpl    ax, dx
        call    .zero
        dec     ecx
        jns     .arpl
        xor     ecx, ecx
        lar     eax, ecx
        call    .zero
        mov     cx, 0xfff8
        verr    cx
        call    .zero
        digest  "rights: "
        ret
.zero:  setz    bl
        movzx   ebx, bl
        mix     eax
        mix     ebx
        ret

; Stack instructions of both sizes on stacks of both sizes.
stacks: mov     [first], esp
        mov     word [pointer + 4], STACK16
        mov     dword [pointer], 0x200
        call    .run
        mov     word [pointer + 4], WINDOW
        mov     dword [pointer], 0x400
        call    .run
        mov     word [pointer + 4], STACK16
        mov     dword [pointer], 0x12340004
        pop     dword [second]
        mov     esi, [first]
        lss     esp, [pointer]
        mov     eax, esp
        push    dword 0xaabbccdd        ; keeps the upper half of ESP
        push    word 0x1122             ; wraps to the end of the segment
        push    dword 0x33445566
        mix     esp
        pop     ebx
        pop     cx
        mix     ebx
        mix     ecx
        mov     eax, DATA
        mov     ss, eax
        mov     esp, esi
        add     esp, 4
        digest  "stack 32: "
        jmp     [second]
.run:   pop     edi
        mov     esi, esp
        lss     esp, [pointer]
        mov     ebp, 0x11110180
        mov     eax, 0x22223333
        pushad
        pusha
        push    byte -1
        push    word 0x7777
        push    dword 0x88889999
        o16 push byte -2
        push    ds
        o16 push ds
        pop     ax
        pop     ebx
        enter   8, 0
        enter   4, 2
        o16 enter 4, 1
        mix     esp
        mix     ebp
        o16 leave
        leave
        leave
        mix     esp
        mix     ebp
        pushfd
        pushf
        pop     ax
        pop     ebx
        push    dword [sum]
        pop     dword [index]
        o16 push word [sum]
        push    esp
        pop     edx
        push    sp
        pop     bx
        mix     edx
        mix     ebx
        mov     eax, DATA
        mov     ss, eax
        mov     esp, esi
        mov     esi, 0x3c
.sum:   mov     ebx, [pointer]
        sub     ebx, esi
        mix     [FREE + ebx]
        sub     esi, 4
        jnz     .sum
        jmp     edi

; Ring 3, a call gate with two parameters, and back.
rings:  mov     dword [gdt + GATE], CODE32 << 16
        mov     eax, .inner
        mov     [gdt + GATE], ax
        mov     dword [gdt + GATE + 4], 0xec02
        user    .outer
        digest  "rings: "
        ret
.outer: push    dword 0x11112222
        push    dword 0x33334444
        mov     ecx, esp
        call    GATE:0
        mix     esp
        mix     ecx
        mov     ax, ss
        mix     eax
        pushfd
        pop     eax
        and     eax, 0x3000
        mix     eax
        int     0x80
.inner: mov     ebp, esp
        mix     ebp
%assign n 0
%rep    6
        mix     [ebp + n * 4]
%assign n n+1
%endrep
        mov     eax, cs
        mix     eax
        mov     eax, ss
        mix     eax
        mov     ecx, esp
        retf    8

; What comes of reading and writing a page, for each WP and CPL, with all rights in both tables: a dot or the error
; code, and a digest of the accessed and dirty bits. The tables: one of 4 MiB pages, one of 4 KiB pages for AT.
paging: mov     edi, TABLES
        mov     eax, 0x87
.next:  mov     [edi], eax
        add     edi, 4
        add     eax, 0x400000
        jnc     .next
        mov     dword [hooks + 14 * 4], .refused
        mov     eax, cr4
        or      al, 0x10
        mov     cr4, eax
        mov     eax, TABLES
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax
        mov     dword [index], 7
.row:   mov     eax, cr0
        and     eax, ~0x10000
        test    byte [index], 4
        jz      .no_wp
        or      eax, 0x10000
.no_wp: mov     cr0, eax
        mov     dword [second], 63
.cell:  mov     eax, [second]
        and     eax, 7
        or      eax, FREE
        mov     [TABLES + 0x1000], eax
        mov     eax, [second]
        shr     eax, 3
        or      eax, TABLES + 0x1000
        mov     [TABLES + 4], eax
        invlpg  [AT]
        mov     byte [outcome], '.'
        test    byte [index], 2
        jz      .cpl0
        user    .touch3
        jmp     .show
.touch3:
        call    .touch
        int     0x80
.cpl0:  call    .touch
.show:  mov     al, [outcome]
        out     0xe9, al
        mov     ecx, 0x40               ; a refused access: nothing is dirty
        cmp     byte [outcome], '.'
        jne     .mask
        mov     ecx, 0x2060
.mask:  mov     eax, [TABLES + 4]
        shl     eax, 8
        mov     al, [TABLES + 0x1000]
        and     eax, ecx
        mix     eax
        dec     dword [second]
        jns     .cell
        digest  " "
        dec     dword [index]
        jns     .row
        jmp     last
.touch: test    byte [index], 1
        jnz     .write
        mov     eax, [AT + 4]
        ret
.write: mov     dword [AT + 4], 0x5a5a5a5a
        ret
.refused:
        mov     al, [frame32(F32_ERROR)]
        add     al, '0'
        mov     [outcome], al
        mov     dword [frame32(F32_EIP)], only_ret
        ret

        align   4
sum:    dd      0
index:  dd      0
flags:  dd      0
flags_after:
        dd      0
first:  dd      0
second: dd      0
code:   dd      0
mask:   dd      0
result: dd      0
pointer:
        dd      0, 0
pointer32:
        dd      segments16.far32
        dw      0
zero:   db      0, 0
width:  db      0
double: db      0
outcome:
        db      0
flag_bits:
        db      0, 2, 4, 6, 7, 11
string_segments:
        db      0, 0x26, 0x64
string_repeats:
        db      0, 0xf2, 0xf3
string_addresses:
        db      0, 0x67
        align   4
string_opcodes:
        db      0xa4, 0, 0xa5, 0, 0x66, 0xa5, 0xa6, 0, 0xa7, 0, 0x66, 0xa7, 0xaa, 0, 0xab, 0, 0x66, 0xab
        db      0xac, 0, 0xad, 0, 0x66, 0xad, 0xae, 0, 0xaf, 0, 0x66, 0xaf
        align   4
operands:
        dd      0, 1, 2, 7, 0x7f, 0x80, 0x81, 0xff, 0x100, 0x7fff, 0x8000, 0x8001, 0xffff, 0x10000, 0x7fffffff
        dd      0x80000000, 0x80000001, 0xffffffff, 0x12345678, 0x89abcdef, 0x55555555, 0xaaaaaaaa, 0x0f0e0d0c
        dd      0xdeadbeef
operands_end:
pairs:  dd      1, 0xffffffff, 0x80808080, 0x7f7f7f7f, 0x12345678, 0x89abcdef, 0xf0f1f2f3, 3
pairs_end:
