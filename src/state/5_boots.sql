-- What was seen of machines: their last boots, each as JSON.
CREATE TABLE boots (
    mac TEXT NOT NULL,
    began REAL NOT NULL,
    last REAL NOT NULL,
    timeline TEXT NOT NULL,
    PRIMARY KEY (mac, began)
) WITHOUT ROWID;
