#include "textflag.h"

// Offsets into frame.
#define CLONE 0
#define SIZE  8
#define CALLS 16
#define COUNT 24
#define PID   32
#define ERRNO 40
#define LEFT  48
#define ALL   56
#define KEPT  64

// Offsets into call.
#define NUMBER   0
#define ARGS     8
#define RESULT   56
#define TOLERATE 64
#define ENTRY    72

#define SYS_rt_sigprocmask 14
#define SYS_exit_group     231
#define SYS_clone3         435
#define SIG_SETMASK        2

// func vfork(f *frame)
//
// From the clone3 on, the child lives in registers alone: R12 the frame, R13
// the entry, BX the number of entries left. It has no way back.
TEXT ·vfork(SB), NOSPLIT|NOFRAME, $0-8
	MOVQ	f+0(FP), R12

	MOVQ	$SYS_rt_sigprocmask, AX // block all signals
	MOVQ	$SIG_SETMASK, DI
	LEAQ	ALL(R12), SI
	LEAQ	KEPT(R12), DX
	MOVQ	$8, R10
	SYSCALL

	MOVQ	$SYS_clone3, AX
	MOVQ	CLONE(R12), DI
	MOVQ	SIZE(R12), SI
	SYSCALL
	TESTQ	AX, AX
	JZ	child

	MOVQ	AX, PID(R12) // the parent, after the child's exec or exit
	MOVQ	$SYS_rt_sigprocmask, AX
	MOVQ	$SIG_SETMASK, DI
	LEAQ	KEPT(R12), SI
	MOVQ	$0, DX
	MOVQ	$8, R10
	SYSCALL
	RET

child:
	MOVQ	CALLS(R12), R13
	MOVQ	COUNT(R12), BX
next:
	MOVQ	$0, DI
	TESTQ	BX, BX
	JZ	exit // a table without execve ends well
	MOVQ	NUMBER(R13), AX
	MOVQ	(ARGS+0)(R13), DI
	MOVQ	(ARGS+8)(R13), SI
	MOVQ	(ARGS+16)(R13), DX
	MOVQ	(ARGS+24)(R13), R10
	MOVQ	(ARGS+32)(R13), R8
	MOVQ	(ARGS+40)(R13), R9
	SYSCALL
	CMPQ	AX, $-4095
	JCC	failed // unsigned: -4095 to -1 are errors
	MOVQ	RESULT(R13), CX
	TESTQ	CX, CX
	JZ	done
	MOVQ	AX, (CX)
done:
	ADDQ	$ENTRY, R13
	DECQ	BX
	JMP	next

failed:
	MOVQ	TOLERATE(R13), CX
	CMPQ	CX, AX
	JEQ	done
	CMPQ	CX, $1 // anyError
	JEQ	done
	NEGQ	AX
	MOVQ	AX, ERRNO(R12)
	MOVQ	BX, LEFT(R12)
	MOVQ	$127, DI
exit:
	MOVQ	$SYS_exit_group, AX
	SYSCALL
	JMP	exit
