// Command cri asks a container manager for what Kubernetes' kubelet asks of
// it, over the Container Runtime Interface. It is a module of its own: nothing
// else here needs gRPC.
//
//	cri ADDRESS runp NAME RUNTIME LOGS         run a pod sandbox, print its ID
//	cri ADDRESS create POD NAME IMAGE CMD...   make a container in it, print its ID
//	cri ADDRESS start|stop|rm|status CONTAINER
//	cri ADDRESS exec CONTAINER CMD...          run a command to its end
//	cri ADDRESS limit CONTAINER BYTES          change its memory limit
//	cri ADDRESS ip|stopp|rmp POD
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func main() {
	status, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "cri:", err)
		status = 1
	}
	os.Exit(status)
}

func run(args []string) (status int, err error) {
	if len(args) < 3 {
		return 0, errors.New("see the comment in its source")
	}
	connection, err := grpc.NewClient("unix://"+args[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return 0, err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := client{ctx, cri.NewRuntimeServiceClient(connection), args[3:]}
	do, ok := map[string]func(id string) error{
		"runp": c.runPod, "create": c.create, "limit": c.limit, "ip": c.ip, "status": c.status,
		"start": func(id string) error {
			_, err := c.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: id})
			return err
		},
		"stop": func(id string) error {
			_, err := c.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: id, Timeout: 1})
			return err
		},
		"rm": func(id string) error {
			_, err := c.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: id})
			return err
		},
		"stopp": func(id string) error {
			_, err := c.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id})
			return err
		},
		"rmp": func(id string) error {
			_, err := c.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: id})
			return err
		},
	}[args[1]]
	switch {
	case args[1] == "exec":
		return c.exec(args[2])
	case !ok:
		return 0, fmt.Errorf("unknown command %q", args[1])
	}
	return 0, do(args[2])
}

type client struct {
	context.Context
	cri.RuntimeServiceClient
	args []string
}

// pod is the configuration of a pod, which create must repeat.
func pod(name, logs string) *cri.PodSandboxConfig {
	return &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Uid: "uid-" + name, Namespace: "default"},
		Hostname:     name,
		LogDirectory: logs,
		Linux:        &cri.LinuxPodSandboxConfig{CgroupParent: os.Getenv("CGROUP"), SecurityContext: &cri.LinuxSandboxSecurityContext{}},
	}
}

func (c client) runPod(name string) error {
	r, err := c.RunPodSandbox(c, &cri.RunPodSandboxRequest{Config: pod(name, c.args[1]), RuntimeHandler: c.args[0]})
	if err != nil {
		return err
	}
	fmt.Println(r.PodSandboxId)
	return nil
}

func (c client) create(id string) error {
	status, err := c.PodSandboxStatus(c, &cri.PodSandboxStatusRequest{PodSandboxId: id})
	if err != nil {
		return err
	}
	r, err := c.CreateContainer(c, &cri.CreateContainerRequest{
		PodSandboxId:  id,
		SandboxConfig: pod(status.Status.Metadata.Name, os.Getenv("LOGS")),
		Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: c.args[0]},
			Image:    &cri.ImageSpec{Image: c.args[1]},
			Command:  c.args[2:],
			LogPath:  c.args[0] + ".log",
			Linux: &cri.LinuxContainerConfig{
				Resources:       &cri.LinuxContainerResources{MemoryLimitInBytes: 64 << 20},
				SecurityContext: &cri.LinuxContainerSecurityContext{NoNewPrivs: true},
			},
		},
	})
	if err != nil {
		return err
	}
	fmt.Println(r.ContainerId)
	return nil
}

func (c client) exec(id string) (status int, err error) {
	r, err := c.ExecSync(c, &cri.ExecSyncRequest{ContainerId: id, Cmd: c.args, Timeout: 10})
	if err != nil {
		return 0, err
	}
	_, err = os.Stdout.Write(r.Stdout)
	return int(r.ExitCode), err
}

func (c client) limit(id string) error {
	bytes, err := strconv.ParseInt(c.args[0], 10, 64)
	if err != nil {
		return err
	}
	_, err = c.UpdateContainerResources(c, &cri.UpdateContainerResourcesRequest{
		ContainerId: id, Linux: &cri.LinuxContainerResources{MemoryLimitInBytes: bytes},
	})
	return err
}

func (c client) ip(id string) error {
	r, err := c.PodSandboxStatus(c, &cri.PodSandboxStatusRequest{PodSandboxId: id})
	if err != nil {
		return err
	}
	fmt.Println(r.Status.Network.Ip)
	return nil
}

func (c client) status(id string) error {
	r, err := c.ContainerStatus(c, &cri.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		return err
	}
	fmt.Println(r.Status.State, r.Status.ExitCode)
	return nil
}
