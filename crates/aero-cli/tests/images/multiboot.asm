; A multiboot kernel that loads by the addresses in its header: what it is told, ACPI's root pointer, the test device and
; fw_cfg.
; kernel
; aero: --cpu max --append one=1 --testdev
; status: 33
; qemu: max -append one=1 -device pc-testdev
        bits    32
        org     0x100000
%define MAGIC   0x1badb002
%define FLAGS   0x10003
header: dd      MAGIC, FLAGS, -(MAGIC + FLAGS), header, header, image_end, bss_end, start

%macro  say 1+
        push    esi
        mov     esi, %%text
        call    puts
        pop     esi
        jmp     %%on
%%text: db      %1, 0
%%on:
%endmacro
%macro  put 1
        push    eax
        mov     eax, %1
        call    hex
        pop     eax
%endmacro

start:  mov     esp, stack
        mov     ebp, ebx
        say     "eax "
        put     eax
        mov     eax, cr0
        and     eax, 0x80000001
        say     " cr0 "
        put     eax
        pushfd
        pop     eax
        and     eax, 0x20200
        say     " eflags "
        put     eax
        say     " idtr "                ; as the BIOS left it
        sub     esp, 8
        sidt    [esp]
        put     [esp + 4]               ; PUT has pushed EAX
        add     esp, 8
        say     10, "lower memory "
        put     [ebp + 4]
        mov     eax, [ebp]
        and     eax, 0x24d
        say     " flags "
        put     eax
        say     10, "command line "
        mov     esi, [ebp + 16]
.name:  lodsb
        cmp     al, ' '
        ja      .name
        call    puts
        say     10, "map "
        mov     esi, [ebp + 48]
        put     [esi]
        say     " "
        put     [esi + 4]
        say     " "
        put     [esi + 12]
        say     " "
        put     [esi + 20]
        say     10, "zeroed "
        put     [bss]
        say     10, "root pointer "
        mov     esi, 0xe0000
.scan:  cmp     dword [esi], 'RSD '
        jne     .next
        cmp     dword [esi + 4], 'PTR '
        je      .found
.next:  add     esi, 16
        cmp     esi, 0x100000
        jb      .scan
        say     "missing"
.found: mov     ecx, 20
        xor     eax, eax
.sum:   add     al, [esi]
        inc     esi
        loop    .sum
        put     eax
        say     10, "fw_cfg "
        mov     dx, 0x510
        xor     eax, eax
        out     dx, ax
        inc     edx
        mov     ecx, 4
.sign:  in      al, dx
        out     0xe9, al
        loop    .sign
        say     ", processors "
        mov     dx, 0x510
        mov     eax, 5
        out     dx, ax
        inc     edx
        in      al, dx
        put     eax
        say     10, "storage "
        mov     dx, 0xe0
        mov     eax, 0x11223344
        out     dx, eax
        mov     al, 0xaa
        inc     edx
        out     dx, al
        dec     edx
        in      eax, dx
        put     eax
        say     " "
        mov     dword [0xff000010], 0xcafe1234
        mov     byte [0xff000011], 0
        put     [0xff000010]
        mov     dx, 0xe4
        mov     eax, 0x100000
        out     dx, eax
        say     10, "a line of the PIC "
        mov     al, 0x0a
        out     0x20, al
        in      al, 0x20
        and     al, 0x20
        movzx   eax, al
        put     eax
        mov     dx, 0x2005
        mov     al, 1
        out     dx, al
        in      al, 0x20
        and     al, 0x20
        movzx   eax, al
        put     eax
        mov     al, 0
        out     dx, al
        say     10
        mov     al, 0x10
        out     0xf4, al
        hlt

puts:   push    eax
.next:  lodsb
        test    al, al
        jz      .done
        out     0xe9, al
        jmp     .next
.done:  pop     eax
        ret
hex:    push    ecx
        mov     ecx, 8
.digit: rol     eax, 4
        push    eax
        and     al, 15
        add     al, '0'
        cmp     al, '9'
        jbe     .out
        add     al, 7
.out:   out     0xe9, al
        pop     eax
        loop    .digit
        pop     ecx
        ret
image_end:
        absolute image_end
bss:    resd    1
        resb    4096
stack:
bss_end:
