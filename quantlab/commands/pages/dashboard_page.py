from quantlab.commands.dashboard import dashboard_page

dashboard_page()
