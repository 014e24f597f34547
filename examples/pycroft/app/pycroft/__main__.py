from pycroft.main import main

main()
