#include "textflag.h"

#define SYS_write            1
#define SYS_close            3
#define SYS_rt_sigprocmask  14
#define SYS_ioctl           16
#define SYS_getpid          39
#define SYS_clone           56
#define SYS_execve          59
#define SYS_wait4           61
#define SYS_kill            62
#define SYS_fcntl           72
#define SYS_setpgid        109
#define SYS_rt_sigtimedwait 128
#define SYS_exit_group     231

#define SIG_SETMASK 2
#define SIGCHLD     17
#define TIOCSPGRP   0x5410
#define F_SETFD     2
#define FD_CLOEXEC  1
#define WNOHANG     1
#define REPORT      3 // the descriptor on which a failure is told

// Offsets into the frame, from R15.
#define MASK   0
#define WORD   8

// program is the whole of process 1; the kernel enters it with the stack at
// argc. It is copied to a file of its own (Open), so it must not refer to
// anything outside itself.
//
//	R12 the argument behind "--", which is the command's first
//	R13 the environment
//	R14 the next place to look for the command
//	BX  the command's process
TEXT ·program(SB), NOSPLIT|NOFRAME, $0-0
	MOVQ	SP, R12
	MOVQ	(R12), AX
	LEAQ	8(R12), R12            // argv
	LEAQ	8(R12)(AX*8), R13      // behind its null
	ADDQ	$8, R12
	MOVQ	R12, R14               // argv[1]
find:
	MOVQ	(R12), SI
	ADDQ	$8, R12
	CMPW	(SI), $0x2d2d          // "--"
	JNE	find
	CMPB	2(SI), $0
	JNE	find

	SUBQ	$64, SP
	MOVQ	SP, R15
	MOVQ	$-1, MASK(R15)
	MOVQ	$SYS_rt_sigprocmask, AX // all signals wait to be asked for
	MOVQ	$SIG_SETMASK, DI
	LEAQ	MASK(R15), SI
	MOVQ	$0, DX
	MOVQ	$8, R10
	SYSCALL

	MOVQ	$SYS_clone, AX          // a fork
	MOVQ	$SIGCHLD, DI
	MOVQ	$0, SI
	MOVQ	$0, DX
	MOVQ	$0, R10
	MOVQ	$0, R8
	SYSCALL
	MOVQ	AX, BX
	TESTQ	AX, AX
	JZ	child
	JS	fail

	MOVQ	$SYS_close, AX
	MOVQ	$REPORT, DI
	SYSCALL

next:
	MOVQ	$SYS_rt_sigtimedwait, AX
	LEAQ	MASK(R15), DI
	MOVQ	$0, SI
	MOVQ	$0, DX
	MOVQ	$8, R10
	SYSCALL
	TESTQ	AX, AX
	JLE	next                    // interrupted
	CMPQ	AX, $SIGCHLD
	JEQ	reap
	MOVQ	AX, SI
	MOVQ	$SYS_kill, AX
	MOVQ	BX, DI
	SYSCALL
	JMP	next

reap:
	MOVQ	$SYS_wait4, AX
	MOVQ	$-1, DI
	LEAQ	WORD(R15), SI
	MOVQ	$WNOHANG, DX
	MOVQ	$0, R10
	SYSCALL
	TESTQ	AX, AX
	JLE	next                    // no more that has ended
	CMPQ	AX, BX
	JNE	reap                    // an orphan
	MOVL	WORD(R15), DI
	MOVL	DI, AX
	SHRL	$8, DI
	ANDL	$0xff, DI               // its exit code
	ANDL	$0x7f, AX
	JZ	exit
	LEAL	128(AX), DI             // or the signal that ended it
	JMP	exit

child:
	MOVQ	$SYS_setpgid, AX        // what is typed at a terminal is for the command, not for process 1
	MOVQ	$0, DI
	MOVQ	$0, SI
	SYSCALL
	MOVQ	$SYS_getpid, AX
	SYSCALL
	MOVL	AX, WORD(R15)
	MOVQ	$SYS_ioctl, AX          // an error means that there is no terminal
	MOVQ	$0, DI
	MOVQ	$TIOCSPGRP, SI
	LEAQ	WORD(R15), DX
	SYSCALL
	MOVQ	$SYS_fcntl, AX
	MOVQ	$REPORT, DI
	MOVQ	$F_SETFD, SI
	MOVQ	$FD_CLOEXEC, DX
	SYSCALL
	MOVQ	$0, MASK(R15)
	MOVQ	$SYS_rt_sigprocmask, AX
	MOVQ	$SIG_SETMASK, DI
	LEAQ	MASK(R15), SI
	MOVQ	$0, DX
	MOVQ	$8, R10
	SYSCALL
	LEAQ	-8(R12), BX             // "--", behind the last place
try:
	MOVQ	$SYS_execve, AX
	MOVQ	(R14), DI
	MOVQ	R12, SI
	MOVQ	R13, DX
	SYSCALL
	ADDQ	$8, R14
	CMPQ	R14, BX
	JNE	try

fail:
	NEGL	AX
	MOVL	AX, WORD(R15)
	MOVQ	$SYS_write, AX
	MOVQ	$REPORT, DI
	LEAQ	WORD(R15), SI
	MOVQ	$4, DX
	SYSCALL
	MOVL	$127, DI
exit:
	MOVQ	$SYS_exit_group, AX
	SYSCALL
	JMP	exit

	// the end, which Open looks for
	LONG	$0x72656b73
	LONG	$0x646e4579

// func code() *byte
TEXT ·code(SB), NOSPLIT, $0-8
	LEAQ	·program(SB), AX
	MOVQ	AX, ret+0(FP)
	RET
