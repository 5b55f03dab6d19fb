package account

import "syscall"

func endWithParent(attr *syscall.SysProcAttr, end syscall.Signal) { attr.Pdeathsig = end }
