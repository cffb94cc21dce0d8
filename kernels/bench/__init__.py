"""Benchmarks of the kernels: one registry of cases, each verified before it is timed.

    PYTHONPATH=.:kernels python -m bench aot        compile every kernel for sm_80 and sm_90, no GPU
    PYTHONPATH=.:kernels python -m bench run        verify and time the cases on the CUDA device
    PYTHONPATH=.:kernels python -m bench tables     the measurements as the dispatcher's tables
    PYTHONPATH=.:kernels python -m bench report     the measurements against floor and targets
    PYTHONPATH=.:kernels python -m bench gpu        all that needs a device (this is `make gpu`)

docs/benchmarks.md says what each of them writes.
"""
