"""The command line, `python -m gfscreen ...`: parsing, help, and what each command prints. Nothing imports it.

cli                  the parser of all commands, log, exit codes
predict_command      `predict`, `stats`
weights_commands     `info`, `convert`, `export`, `init`
dicom_commands       `series`, `seg`
training_commands    `train`, `prepare`, `pack`, `insert-lesions`, `assemble`
arguments, progress  value types, messages, the line on a terminal
"""
