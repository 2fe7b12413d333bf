"""Pictures of a scan with its mask: stills, and pages with a viewer that open from disk without a network.

    planes      a plane through a scan as a drawn picture: orientation letters, scale bar, outlines
    volumes     volumes small enough to live inside a page
    reading_windows    what a finding is drawn in: lung, soft tissue, liver, bone
    case        a scan with its mask and findings, ready to be drawn
    heatmap     where Glance looked and what it skipped, as a layer over the scan
    viewer      NiiVue, its controls and its data inside a page
    markup      pieces of HTML, and the page around them
    montage     a still per case: the largest findings in three planes
    findings_list    the findings of a case beside the viewer, and links to files
    page        one page per run
    run         case by case through all of it

The harness's report (`eval.report`) draws with the same parts. Stills need matplotlib: the extra `preview`.
"""
