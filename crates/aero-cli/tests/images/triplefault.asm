; A fault that nothing handles stops the machine.
; status: 3
%include "bare.inc"
start:  protected
        say     "going down", 10
        mov     word [idtr], 0
        lidt    [idtr]
        ud2
        say     "not reached", 10
        finish
