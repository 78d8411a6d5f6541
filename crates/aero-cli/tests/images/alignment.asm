; Alignment checks: CR0.AM, EFLAGS.AC and CPL 3 together, sizes, and what is never checked.
%include "bare.inc"
start:  protected
        mov     eax, cr0
        or      eax, 0x40000
        mov     cr0, eax
        pushfd
        or      dword [esp], 0x40000
        popfd
        fault   "CPL 0", {mov eax, [FREE + 1]}
        mov     dword [hooks + 17 * 4], ac
        user    at_cpl3, 0x43002
        finish
at_cpl3:
%macro  try 2+
        say     %1, ": "
        %2
        newline
%endmacro
        try     "byte", mov al, [FREE + 1]
        try     "word", mov ax, [FREE + 1]
        try     "dword at 2", mov eax, [FREE + 2]
        try     "dword at 4", mov eax, [FREE + 4]
        try     "store", mov [FREE + 3], eax
        try     "fld qword at 4", fld qword [FREE + 4]
        fninit
        try     "sgdt", sgdt [FREE + 1]
        try     "push, odd stack", call odd
        pushfd
        and     dword [esp], ~0x40000
        popfd
        try     "AC clear", mov eax, [FREE + 1]
        int     0x80
odd:    ret
ac:     say     "#11("
        put16   [frame32(F32_ERROR)]
        say     ")"
        and     dword [frame32(F32_EFLAGS)], ~0x40000
        mov     dword [hooks + 1 * 4], again
        or      dword [frame32(F32_EFLAGS)], 0x100
        ret
again:  or      dword [frame32(F32_EFLAGS)], 0x40000
        and     dword [frame32(F32_EFLAGS)], ~0x100
        ret
