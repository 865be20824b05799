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
	MOVD $0x400200, R19            // stubBase + stubTable
step:
	MOVD 0(R19), R8
	TBNZ $63, R8, exec             // endOfList
	LDP 8(R19), (R0, R1)
	LDP 24(R19), (R2, R3)
	LDP 40(R19), (R4, R5)
	SVC
	CMN $4095, R0
	BCS failed
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

TEXT stubEnd<>(SB), NOSPLIT|NOFRAME, $0
	RET
