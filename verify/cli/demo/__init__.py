"""What `veriflow demo` needs beside its command."""
