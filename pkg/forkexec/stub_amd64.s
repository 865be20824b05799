#include "textflag.h"

// func code() (start *byte, size int)
TEXT ·code(SB), NOSPLIT, $0-16
	LEAQ stub<>(SB), AX
	LEAQ stubEnd<>(SB), CX
	SUBQ AX, CX
	MOVQ AX, start+0(FP)
	MOVQ CX, size+8(FP)
	RET

// The stub's whole program. It is copied into an ELF file and never runs
// here. At its start SP points to argc, argv, NULL, envp.
TEXT stub<>(SB), NOSPLIT|NOFRAME, $0
	MOVQ SP, R12
	MOVQ $0x400280, BX             // stubBase + stubTable
step:
	MOVQ 0(BX), AX
	TESTQ AX, AX
	JS exec                        // endOfList
	MOVQ 8(BX), DI
	MOVQ 16(BX), SI
	MOVQ 24(BX), DX
	MOVQ 32(BX), R10
	MOVQ 40(BX), R8
	MOVQ 48(BX), R9
	SYSCALL
	CMPQ AX, $-4095
	JAE failed
	CMPQ 0(BX), $56                // clone
	JNE next
	TESTQ AX, AX
	JEQ next
	TESTQ R9, R9                   // where the parent goes on
	JNE init
next:
	ADDQ $64, BX
	JMP step
exec:
	MOVQ 0(R12), DX
	MOVQ 8(R12), DI                // argv[0]: the path
	LEAQ 16(R12), SI               // argv + 1
	LEAQ 16(R12)(DX*8), DX          // envp
	MOVQ $59, AX                   // execve
	SYSCALL
failed:
	NEGQ AX
	MOVWQZX 58(BX), CX             // the errno that is no failure
	CMPQ AX, CX
	JEQ next
	SHLQ $32, AX
	MOVWQZX 56(BX), CX
	ORQ CX, AX                     // struct report {step, errno}
	PUSHQ AX
	MOVL 60(BX), DI                // the descriptor to report on
	MOVQ SP, SI
	MOVQ $8, DX
	MOVQ $1, AX                    // write
	SYSCALL
	MOVQ $127, DI
	MOVQ $231, AX                  // exit_group
	SYSCALL
	HLT
init:
	MOVQ AX, R13                   // the child
	MOVQ R9, BX
	MOVQ 0(BX), AX                 // close_range
	MOVQ 8(BX), DI
	MOVQ 16(BX), SI
	MOVQ 24(BX), DX
	SYSCALL
	CMPQ AX, $-4095
	JAE failed
	ADDQ $64, BX
wait:
	MOVQ 0(BX), AX                 // rt_sigtimedwait
	MOVQ 8(BX), DI
	MOVQ 16(BX), SI
	MOVQ 24(BX), DX
	MOVQ 32(BX), R10
	SYSCALL
	CMPQ AX, $-4                   // EINTR
	JEQ wait
	CMPQ AX, $-4095
	JAE failed
	CMPQ AX, $17                   // SIGCHLD
	JEQ reap
	MOVQ AX, SI
	MOVQ R13, DI
	MOVQ 64(BX), AX                // kill
	SYSCALL
	JMP wait
reap:
	MOVQ 128(BX), AX               // wait4
	MOVQ 136(BX), DI
	MOVQ R12, SI                   // argc is not needed any more
	MOVQ 152(BX), DX
	MOVQ 160(BX), R10
	SYSCALL
	TESTQ AX, AX
	JEQ wait
	CMPQ AX, $-4095
	JAE failed
	CMPQ AX, R13
	JNE reap
	MOVL 0(R12), DI
	ANDL $127, DI                  // WTERMSIG
	JEQ exited
	ADDL $128, DI
	JMP end
exited:
	MOVBLZX 1(R12), DI             // WEXITSTATUS
end:
	MOVQ 192(BX), AX               // exit_group
	SYSCALL
	JMP failed

TEXT stubEnd<>(SB), NOSPLIT|NOFRAME, $0
	RET
