package forkexec

const machine = 183 // EM_AARCH64
