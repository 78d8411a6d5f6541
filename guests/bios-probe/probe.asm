; What a boot loader asks a PC's BIOS for, each with a line on COM1 that begins with BP.
;
; A floppy image: the first sector loads the seven behind it. Interrupts 10h to 1Ah are called as loaders call
; them; what can be judged here is (sorted, agree, same), the rest is for the test to compare. The end is
; `BP done`, and 10h at port F4h, which ends the run.
        bits    16
        org     7C00h

COM1    equ     3F8h
EXIT    equ     0F4h
STAGE2  equ     7E00h
SECTORS equ     7
; Work areas above the program.
map     equ     9000h           ; one E820 entry
packet  equ     9100h           ; disk address packet, EDD parameters
sector  equ     9200h
vbe     equ     9400h

%define NL 13, 10

; Prints what follows the call. Changes SI only.
%macro  say     1+
        call    print
        db      %1, 0
%endmacro

start:  cli
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     sp, 7C00h
        sti
        cld
        xor     dh, dh                  ; cylinder 0, head 0, from sector 2
        mov     cx, 2
        mov     bx, STAGE2
        mov     ax, 0200h | SECTORS
        int     13h
        jnc     main
        say     "BP load FAILED", NL
stop:   mov     al, 10h
        out     EXIT, al
        hlt
        jmp     stop

put:    push    dx
        push    ax
        mov     dx, COM1 + 5            ; until the transmitter takes a byte
.wait:  in      al, dx
        test    al, 20h
        jz      .wait
        pop     ax
        mov     dx, COM1
        out     dx, al
        push    bx
        push    ax
        mov     bx, 7
        mov     ah, 0Eh
        int     10h
        pop     ax
        pop     bx
        pop     dx
        ret

print:  pop     si
        push    ax
.next:  lodsb
        test    al, al
        jz      .end
        call    put
        jmp     .next
.end:   pop     ax
        jmp     si

; EAX, AX or AL in hexadecimal. Change nothing.
dword_: pushad
        mov     cx, 8
        jmp     digits
word_:  pushad
        shl     eax, 16
        mov     cx, 4
        jmp     digits
byte_:  pushad
        shl     eax, 24
        mov     cx, 2
digits: rol     eax, 4
        push    eax
        and     al, 0Fh
        add     al, '0'
        cmp     al, '9'
        jbe     .put
        add     al, 7
.put:   call    put
        pop     eax
        loop    digits
        popad
        ret

        times   510 - ($ - $$) db 0
        dw      0AA55h

main:   say     NL, "BP start", NL
        call    memory
        call    gate
        call    disks
        call    screen
        call    keyboard
        call    clock
        call    pci
        say     "BP done", NL
        jmp     stop

; INT 12h, 15h E820, E801 and 88h.
memory: int     12h
        mov     [low_kib], ax
        say     "BP low="
        call    word_
        say     NL
        int     11h
        say     "BP equipment="
        call    word_
        say     NL
        xor     ebx, ebx
.entry: mov     eax, 0E820h
        mov     edx, 'PAMS'             ; SMAP, first letter highest
        mov     ecx, 20
        mov     di, map
        int     15h
        jc      .map
        cmp     eax, 'PAMS'
        jne     .map
        say     "BP e820 "
        mov     eax, [map + 4]
        call    dword_
        mov     eax, [map]
        call    dword_
        say     "+"
        mov     eax, [map + 12]
        call    dword_
        mov     eax, [map + 8]
        call    dword_
        say     " "
        mov     al, [map + 16]
        call    byte_
        say     NL
        call    order
        test    ebx, ebx
        jnz     .entry
.map:   cmp     byte [disorder], 0
        jne     .sizes
        say     "BP e820 sorted", NL
.sizes: mov     ah, 88h
        int     15h
        mov     [ext_kib], ax
        say     "BP 88h="
        call    word_
        mov     ax, 0E801h
        int     15h
        mov     [e801], ax
        mov     [e801 + 2], bx
        say     " e801="
        call    word_
        say     ","
        mov     ax, bx
        call    word_
        say     NL
        mov     eax, [below_1m]         ; what is free below A0000h
        shr     eax, 10
        cmp     ax, [low_kib]
        jne     .done
        mov     eax, [above_1m]
        shr     eax, 10
        cmp     ax, [ext_kib]
        jne     .done
        movzx   eax, word [e801]        ; KiB up to 16 MiB and blocks of 64 KiB from there
        movzx   ebx, word [e801 + 2]
        shr     eax, 6
        add     eax, ebx
        mov     ebx, [above_1m]
        shr     ebx, 16
        cmp     eax, ebx
        jne     .done
        say     "BP sizes agree", NL
.done:  ret

; Looks at the entry: where the one before ended, and the two that are memory to use.
order:  mov     eax, [map]
        mov     edx, [map + 4]
        cmp     edx, [last + 4]
        ja      .fine
        jb      .wrong
        cmp     eax, [last]
        jae     .fine
.wrong: mov     byte [disorder], 1
.fine:  cmp     byte [map + 16], 1
        jne     .end
        mov     ecx, [map + 8]
        test    eax, eax
        jnz     .above
        mov     [below_1m], ecx
.above: cmp     eax, 100000h
        jne     .end
        mov     [above_1m], ecx
.end:   mov     eax, [map]
        add     eax, [map + 8]
        adc     edx, [map + 12]
        mov     [last], eax
        mov     [last + 4], edx
        ret

; Address line 20 by INT 15h, port 92h and the keyboard controller: 0 where memory wraps at 1 MiB. Any of the
; two ports opens it, so one is tried with the other off.
gate:   cli
        mov     ah, 0DDh                ; the controller's output port with bit 1 clear
        call    output
        say     "BP a20 int15="
        mov     ax, 2400h
        int     15h
        call    open
        mov     ax, 2401h
        int     15h
        call    open
        say     " port92="
        mov     ah, 0
        call    fast
        call    open
        mov     ah, 2
        call    fast
        call    open
        mov     ah, 0
        call    fast
        say     " kbc="
        mov     ah, 0DDh
        call    output
        call    open
        mov     ah, 0DFh
        call    output
        call    open
        sti
        say     NL
        mov     ah, 2

; Bit 1 of port 92h becomes that of AH; bit 0 would reset the processor.
fast:   in      al, 92h
        and     al, 0FCh
        or      al, ah
        out     92h, al
        ret

output: call    ready
        mov     al, 0D1h
        out     64h, al
        call    ready
        mov     al, ah
        out     60h, al
ready:  in      al, 64h
        test    al, 2
        jnz     ready
        ret

open:   mov     ax, 0FFFFh
        mov     fs, ax
        mov     word [map], 1111h
        mov     word [fs:map + 10h], 2222h
        cmp     word [map], 1111h
        sete    al
        add     al, '0'
        jmp     put

; INT 13h: geometry, and the extensions on the first hard disk, which holds the floppy's image too.
disks:  say     "BP floppy="
        mov     ah, 8
        xor     dx, dx
        xor     di, di
        int     13h
        push    ds
        pop     es
        mov     ax, cx
        call    word_
        say     ","
        mov     al, dh
        call    byte_
        say     NL
        mov     ah, 41h
        mov     bx, 55AAh
        mov     dl, 80h
        int     13h
        jc      .none
        say     "BP edd="
        mov     ax, bx
        call    word_
        say     " sectors="
        mov     ah, 48h
        mov     si, packet
        mov     word [packet], 1Eh
        mov     dl, 80h
        int     13h
        jc      .none
        mov     eax, [packet + 16]
        call    dword_
        say     " size="
        mov     ax, [packet + 24]
        call    word_
        say     NL
        mov     si, packet
        mov     dword [si], 00010010h   ; 16 bytes, one sector
        mov     dword [si + 4], sector
        mov     dword [si + 8], 0
        mov     dword [si + 12], 0
        mov     ah, 42h
        mov     dl, 80h
        int     13h
        jc      .none
        mov     si, sector
        mov     di, start
        mov     cx, 256
        repe    cmpsw
        jne     .none
        say     "BP disk is the same", NL
        ret
.none:  say     " no disk", NL
        ret

screen: say     "BP mode="
        mov     ah, 0Fh
        int     10h
        call    word_
        say     " vbe="
        mov     dword [vbe], 'VBE2'
        mov     ax, 4F00h
        mov     di, vbe
        int     10h
        call    word_
        say     " version="
        mov     ax, [vbe + 4]
        call    word_
        say     NL
        ret

keyboard:
        say     "BP press", NL
        mov     ah, 0
        int     16h
        say     "BP key="
        call    word_
        say     NL
        ret

; INT 1Ah: the date, and ticks over two seconds of the clock chip.
clock:  say     "BP date="
        mov     ah, 4
        int     1Ah
        mov     ax, cx
        call    word_
        mov     ax, dx
        call    word_
        say     NL
        call    second
        mov     ah, 0
        int     1Ah
        mov     bp, dx
        mov     di, [46Ch]
        call    second
        call    second
        mov     ah, 0
        int     1Ah
        sub     dx, bp
        say     "BP ticks="
        mov     ax, dx
        call    word_
        say     " memory="
        mov     ax, [46Ch]
        sub     ax, di
        call    word_
        say     NL
        ret

; Until the next second begins.
second: mov     ah, 2
        int     1Ah
        mov     bl, dh
.same:  mov     ah, 2
        int     1Ah
        cmp     dh, bl
        je      .same
        ret

; TCG's service of INT 1Ah, then PCI's: host bridge 8086:1237, and class 060100h, the bridge to ISA.
pci:    say     "BP tcg="
        mov     eax, 0BB00h
        int     1Ah
        call    dword_
        say     NL, "BP pci "
        mov     ax, 0B101h
        xor     edi, edi
        int     1Ah
        call    carry
        say     " "
        mov     eax, edx
        call    dword_
        say     " version="
        mov     ax, bx
        call    word_
        say     NL, "BP pci host="
        mov     ax, 0B102h
        mov     dx, 8086h
        mov     cx, 1237h
        xor     si, si
        int     1Ah
        mov     ax, bx
        call    word_
        mov     ax, 0B10Ah              ; its identity as a double word
        xor     di, di
        int     1Ah
        say     " id="
        mov     eax, ecx
        call    dword_
        say     NL, "BP pci isa="
        mov     ax, 0B103h
        mov     ecx, 060100h
        xor     si, si
        int     1Ah
        mov     ax, bx
        call    word_
        mov     ax, 0B109h              ; its class, written by nobody
        mov     di, 0Ah
        int     1Ah
        say     " class="
        mov     ax, cx
        call    word_
        mov     ax, 0B108h              ; a byte that is written, and put back
        mov     di, 60h                 ; where PIRQA goes
        int     1Ah
        push    cx
        mov     ax, 0B10Bh
        mov     cl, 5
        int     1Ah
        mov     ax, 0B108h
        int     1Ah
        say     " written="
        mov     al, cl
        call    byte_
        pop     cx
        mov     ax, 0B10Bh
        int     1Ah
        say     NL, "BP pci none="
        mov     ax, 0B102h
        mov     dx, 8086h
        mov     cx, 0FFFEh
        xor     si, si
        int     1Ah
        call    carry
        mov     al, ah
        call    byte_
        say     NL
        ret

carry:  push    ax
        setc    al
        add     al, '0'
        call    put
        pop     ax
        ret

low_kib dw      0
ext_kib dw      0
e801    dw      0, 0
below_1m dd     0
above_1m dd     0
last    dd      0, 0
disorder db     0

%if $ - $$ > (SECTORS + 1) * 512
        %error "more than is loaded"
%endif
        times   1440 * 1024 - ($ - $$) db 0
