#include "textflag.h"

// func code() (start *byte, size int)
TEXT ·code(SB), NOSPLIT, $0-16
	MOVD $stub<>(SB), R0
	MOVD $stubEnd<>(SB), R1
	SUB R0, R1
	MOVD R0, start+0(FP)
	MOVD R1, size+8(FP)
	RET

// The stub's whole program. It is copied into an ELF file and never runs
// here. At its start RSP points to argc, argv, NULL, envp.
TEXT stub<>(SB), NOSPLIT|NOFRAME, $0
	MOVD RSP, R20
	MOVD $0x400280, R19            // stubBase + stubTable
step:
	MOVD 0(R19), R8
	TBNZ $63, R8, exec             // endOfList
	LDP 8(R19), (R0, R1)
	LDP 24(R19), (R2, R3)
	LDP 40(R19), (R4, R5)
	SVC
	CMN $4095, R0
	BCS failed
	MOVD 0(R19), R1
	CMP $220, R1                   // clone
	BNE next
	CBZ R0, next
	CBNZ R5, init                  // where the parent goes on
next:
	ADD $64, R19
	JMP step
exec:
	MOVD 0(R20), R2
	MOVD 8(R20), R0                // argv[0]: the path
	ADD $16, R20, R1               // argv + 1
	ADD R2<<3, R1, R2              // envp
	MOVD $221, R8                  // execve
	SVC
failed:
	NEG R0, R0
	MOVHU 58(R19), R1              // the errno that is no failure
	CMP R1, R0
	BEQ next
	MOVHU 56(R19), R1
	ORR R0<<32, R1, R0             // struct report {step, errno}
	SUB $16, RSP
	MOVD R0, 0(RSP)
	MOVWU 60(R19), R0              // the descriptor to report on
	MOVD RSP, R1
	MOVD $8, R2
	MOVD $64, R8                   // write
	SVC
	MOVD $127, R0
	MOVD $94, R8                   // exit_group
	SVC
	UNDEF
init:
	MOVD R0, R21                   // the child
	MOVD R5, R19
	MOVD 0(R19), R8                // close_range
	LDP 8(R19), (R0, R1)
	MOVD 24(R19), R2
	SVC
	CMN $4095, R0
	BCS failed
	ADD $64, R19
wait:
	MOVD 0(R19), R8                // rt_sigtimedwait
	LDP 8(R19), (R0, R1)
	LDP 24(R19), (R2, R3)
	SVC
	CMN $4, R0                     // EINTR
	BEQ wait
	CMN $4095, R0
	BCS failed
	CMP $17, R0                    // SIGCHLD
	BEQ reap
	MOVD R0, R1
	MOVD R21, R0
	MOVD 64(R19), R8               // kill
	SVC
	B wait
reap:
	MOVD 128(R19), R8              // wait4
	MOVD 136(R19), R0
	MOVD R20, R1                   // argc is not needed any more
	MOVD 152(R19), R2
	MOVD 160(R19), R3
	SVC
	CBZ R0, wait
	CMN $4095, R0
	BCS failed
	CMP R21, R0
	BNE reap
	MOVWU 0(R20), R0
	ANDS $127, R0, R1              // WTERMSIG
	BEQ exited
	ADD $128, R1, R0
	B end
exited:
	MOVBU 1(R20), R0               // WEXITSTATUS
end:
	MOVD 192(R19), R8              // exit_group
	SVC
	B failed

TEXT stubEnd<>(SB), NOSPLIT|NOFRAME, $0
	RET
