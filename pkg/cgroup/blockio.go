package cgroup

import (
	"fmt"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// The blkio controller, called io in version 2:
// admin-guide/cgroup-v1/blkio-controller.rst, block/bfq-iosched.rst, and "IO"
// in admin-guide/cgroup-v2.rst. Rates are in bytes or operations per second;
// 0 is no limit.

const blockIOPointer = "/linux/resources/blockIO/"

func blockIO(r *specs.LinuxResources, v2 bool) ([]setting, error) {
	b := r.BlockIO
	if b == nil {
		return nil, nil
	}
	var list []setting
	if value(b.LeafWeight) != 0 {
		return nil, noLeafWeight(blockIOPointer + "leafWeight")
	}
	if w := value(b.Weight); w != 0 {
		list = append(list, ioWeight(blockIOPointer+"weight", "", w, v2))
	}
	for i, d := range b.WeightDevice {
		pointer := blockIOPointer + "weightDevice/" + strconv.Itoa(i)
		device, err := ioDevice(pointer, d.LinuxBlockIODevice)
		if err != nil {
			return nil, err
		}
		if value(d.LeafWeight) != 0 {
			return nil, noLeafWeight(pointer + "/leafWeight")
		}
		w := value(d.Weight)
		if w == 0 {
			return nil, invalid(pointer, "neither weight nor leafWeight is set")
		}
		list = append(list, ioWeight(pointer, device+" ", w, v2))
	}
	throttles := [...]struct {
		field, v1, v2, why string
		devices            []specs.LinuxThrottleDevice
	}{
		{"throttleReadBpsDevice", "read_bps", "rbps", "so many bytes are read from the device in a second", b.ThrottleReadBpsDevice},
		{"throttleWriteBpsDevice", "write_bps", "wbps", "so many bytes are written to the device in a second", b.ThrottleWriteBpsDevice},
		{"throttleReadIOPSDevice", "read_iops", "riops", "so many times the device is read from in a second", b.ThrottleReadIOPSDevice},
		{"throttleWriteIOPSDevice", "write_iops", "wiops", "so many times the device is written to in a second", b.ThrottleWriteIOPSDevice},
	}
	for _, t := range throttles {
		for i, d := range t.devices {
			pointer := blockIOPointer + t.field + "/" + strconv.Itoa(i)
			device, err := ioDevice(pointer, d.LinuxBlockIODevice)
			if err != nil {
				return nil, err
			}
			s := setting{pointer: pointer, file: "blkio.throttle." + t.v1 + "_device", value: device + " " + strconv.FormatUint(d.Rate, 10), why: t.why}
			if v2 {
				s.file, s.value = "io.max", device+" "+t.v2+"="+rate(d.Rate)
			}
			list = append(list, s)
		}
	}
	return list, nil
}

// ioWeight is the weight for the BFQ scheduler (1 to 1000, as in config.json).
// In version 2 the io controller itself may serve instead; the kernel has the
// file of whichever there is, and its weights reach from 1 to 10000.
func ioWeight(pointer, device string, weight uint16, v2 bool) setting {
	s := setting{
		pointer: pointer, file: "blkio.bfq.weight", value: device + strconv.Itoa(int(weight)),
		why: "when the disk is busy, it is divided in this proportion",
	}
	switch {
	case v2:
		s.file = "io.bfq.weight"
		s.or = &setting{file: "io.weight", value: device + strconv.Itoa(ioWeightV2(weight))}
	case device != "":
		s.file = "blkio.bfq.weight_device"
	}
	return s
}

// ioWeightV2 maps the weights of version 1, 10 to 1000, to those of the io
// controller, 1 to 10000, by a straight line.
func ioWeightV2(weight uint16) int {
	return 1 + (max(int(weight), 10)-10)*9999/990
}

func rate(n uint64) string {
	if n == 0 {
		return "max"
	}
	return strconv.FormatUint(n, 10)
}

func ioDevice(pointer string, d specs.LinuxBlockIODevice) (string, error) {
	if d.Major < 0 || d.Minor < 0 {
		return "", invalid(pointer, "%d:%d is no device number", d.Major, d.Minor)
	}
	return fmt.Sprintf("%d:%d", d.Major, d.Minor), nil
}

func noLeafWeight(pointer string) error {
	return invalid(pointer, "only the CFQ scheduler had leaf weights, and Linux 5.0 removed it")
}
