package link

// outgoing is what is in flight in one lane.
type outgoing struct {
	credit   int64 // bytes that may be unacknowledged, as the other's hello says
	inFlight int64
	acked    uint64
	sent     uint64
	frames   []flying // those behind acked, in order
}

type flying struct {
	size  int64
	acked func()
}

// room reports whether a message may be sent. One that is larger than all of the
// credit goes alone.
func (o *outgoing) room(size int) bool {
	return o.inFlight == 0 || o.inFlight+int64(size) <= o.credit
}

func (o *outgoing) send(size int, acked func()) {
	o.sent++
	o.inFlight += int64(size)
	o.frames = append(o.frames, flying{size: int64(size), acked: acked})
}

// ack takes an acknowledgement, and returns whom to tell of it.
func (o *outgoing) ack(number uint64) (tell []func(), ok bool) {
	if number < o.acked || number > o.sent {
		return nil, false
	}
	n := number - o.acked
	for _, f := range o.frames[:n] {
		o.inFlight -= f.size
		if f.acked != nil {
			tell = append(tell, f.acked)
		}
	}
	o.frames = append(o.frames[:0:0], o.frames[n:]...)
	o.acked = number
	return tell, true
}

// incoming is what has been received in one lane and is not dealt with.
type incoming struct {
	credit   int64 // as our hello says
	waiting  int64 // bytes
	done     uint64
	received uint64
	sizes    []int64 // of those behind done
}

func (i *incoming) receive(number uint64, size int) error {
	if number != i.received+1 {
		return fault(CodeNumber, "frame %d behind frame %d", number, i.received)
	}
	if i.waiting > 0 && i.waiting+int64(size) > i.credit {
		return fault(CodeCredit, "%d bytes more than the credit", i.waiting+int64(size)-i.credit)
	}
	i.received = number
	i.waiting += int64(size)
	i.sizes = append(i.sizes, int64(size))
	return nil
}

// finish marks the frames through number as dealt with, and reports whether there is
// something new to acknowledge.
func (i *incoming) finish(number uint64) bool {
	number = min(number, i.received)
	if number <= i.done {
		return false
	}
	n := number - i.done
	for _, size := range i.sizes[:n] {
		i.waiting -= size
	}
	i.sizes = append(i.sizes[:0:0], i.sizes[n:]...)
	i.done = number
	return true
}
